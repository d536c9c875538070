//! Modules import only from floors below their own, but for their tests, and only `src/gpu/` names wgpu.

use std::path::{Path, PathBuf};

/// Modules by floor. Those that share a floor do not import each other.
const FLOORS: &[&[&str]] = &[
    &["error", "recording", "capabilities", "memory"],
    &["format"],
    &["checkpoint", "quantize"],
    &["kernels"],
    &["model", "gpu", "cpu", "text"],
    &["engine"],
    &["experiment", "export"],
    &["cli", "main"],
];

/// What floor 0 may import of itself.
const GROUND: &[(&str, &str)] = &[("recording", "error"), ("recording", "capabilities")];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn imports_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    let floor = |module: &str| FLOORS.iter().position(|f| f.contains(&module));
    let mut seen = 0;
    for path in found.iter().filter(|p| p.extension().is_some_and(|e| e == "rs")) {
        let relative = path.strip_prefix(&src).unwrap().with_extension("");
        let module = relative.iter().next().unwrap().to_str().unwrap().to_owned();
        if module == "lib" {
            continue;
        }
        let own = floor(&module).unwrap_or_else(|| panic!("{module} has no floor"));
        let text = std::fs::read_to_string(path).unwrap();
        let code: Vec<&str> = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        let text = code.join("\n");
        assert!(module == "gpu" || !text.contains("wgpu::"), "{} names wgpu", path.display());
        let (shipped, _tests) = text.split_once("#[cfg(test)]\nmod tests").unwrap_or((&text, ""));
        for used in shipped.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(other) = floor(&used).filter(|_| used != module) else { continue };
            let allowed = other < own || GROUND.contains(&(&module, &used));
            assert!(allowed, "{} (floor {own}) imports {used} (floor {other})", path.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} imports were found: does this test still see them?");
}
