//! Every kernel in the language of DirectX 12, which no device at hand takes.
#![cfg(not(target_vendor = "apple"))] // naga does not write it there

use sixteen_states::capabilities::Capabilities;
use sixteen_states::kernels::{KERNELS, Kernel};
use std::collections::BTreeMap;
use wgpu::naga::back::hlsl;
use wgpu::naga::front::wgsl::parse_str;
use wgpu::naga::valid::{Capabilities as Allowed, ModuleInfo, ValidationFlags, Validator};
use wgpu::naga::{Module, TypeInner};

/// The kernels' texts that a device is given, by their names.
fn texts(device: &Capabilities) -> BTreeMap<String, &'static str> {
    let mut texts = BTreeMap::new();
    for kernel in KERNELS {
        for case in (kernel.cases)() {
            for dispatch in case.recording(device).dispatches {
                let kernel = Kernel::named(dispatch.kernel).unwrap();
                texts.insert(kernel.source(&dispatch, device).text, kernel.name);
            }
        }
    }
    texts
}

fn valid(text: &str, allowed: Allowed) -> (Module, ModuleInfo) {
    let module = parse_str(text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    let valid = Validator::new(ValidationFlags::all(), allowed).validate(&module);
    let info = valid.unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    (module, info)
}

#[test]
fn every_kernel_can_be_written_for_directx() {
    let device =
        Capabilities { f16: true, max_workgroup_memory: 32 << 10, ..Capabilities::promised("a GPU", "dx12") };
    let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, ..Default::default() };
    let texts = texts(&device);
    assert!(texts.len() > 100, "{}", texts.len());
    for (text, name) in texts {
        let (module, info) = valid(&text, Allowed::SHADER_FLOAT16 | Allowed::SHADER_FLOAT16_IN_FLOAT32);
        let pipeline = hlsl::PipelineOptions::default();
        let mut out = String::new();
        let written = hlsl::Writer::new(&mut out, &options, &pipeline).write(&module, &info, None);
        written.unwrap_or_else(|e| panic!("{name}: {e}"));
        // What naga has no word for it leaves without one: numbers of subgroups in structures.
        for argument in module.entry_points.iter().flat_map(|entry| &entry.function.arguments) {
            let argument = &module.types[argument.ty];
            let (TypeInner::Struct { .. }, Some(its)) = (&argument.inner, &argument.name) else { continue };
            let (_, members) = out.split_once(&format!("struct {its} {{\n")).unwrap();
            let (members, _) = members.split_once('}').unwrap();
            assert!(members.lines().all(|member| member.contains(" : SV_")), "{name}: {members}");
        }
    }
}
