# make demo          build, and tell whether the model inside the program still reasons with 16 weight states
# make test          every check and test, on the devices that this machine has
# make test-ci       the same on lavapipe and SwiftShader, and the checks for other systems
# make check-targets type-check for Windows and macOS
# make model         fetch and convert the small model alone
# make lint          formatting, lints and documentation
#
# On Debian and Ubuntu, what is missing is installed with apt-get by a user who may (root, or sudo without a
# password). Elsewhere, the target that misses something says what, and stops.

.PHONY: demo test test-ci check-targets check-targets-at-hand model lint tools vulkan devices
# One thing after the other: each uses all cores, and the fast checks come first.
.NOTPARALLEL:

CARGO ?= cargo

# Mesa warns at every start without it.
ifeq ($(XDG_RUNTIME_DIR),)
export XDG_RUNTIME_DIR := $(CURDIR)/target/runtime
$(shell mkdir -p "$(XDG_RUNTIME_DIR)" && chmod 700 "$(XDG_RUNTIME_DIR)")
endif

demo: tools vulkan
	$(CARGO) build --release --bin infer
	"$${CARGO_TARGET_DIR:-target}/release/infer" ab --report target/ab

test: tools devices lint model
	scripts/on-test-devices.sh $(CARGO) test --release

test-ci: export CI := true
test-ci: tools devices lint check-targets-at-hand model
	scripts/on-test-devices.sh $(CARGO) test --release

check-targets: tools
	scripts/check-targets.sh

check-targets-at-hand: tools
	scripts/check-targets.sh --if-available

model: tools
	models/smollm2.sh

# All in the release profile, which shares what it builds with the tests.
lint: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --no-deps

tools:
	scripts/tools.sh

vulkan: tools
	scripts/vulkan.sh

# Before anything slow.
devices: tools
	scripts/on-test-devices.sh true
