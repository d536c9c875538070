//! What the compiler of the first Vulkan driver makes of products: `cargo bench --bench code`, with `-- FOLDER` its code too.
//!
//! Nothing runs, so there need be no GPU: Mesa's RADV compiles for one that is not there with
//! `RADV_FORCE_FAMILY=navi21 VK_ICD_FILENAMES=/usr/share/vulkan/icd.d/radeon_icd.x86_64.json`.

#[cfg(not(target_vendor = "apple"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    vulkan::main()
}

#[cfg(target_vendor = "apple")]
fn main() {
    eprintln!("naga writes nothing for Vulkan here, and there is no such driver");
}

#[cfg(not(target_vendor = "apple"))]
mod vulkan {
    use ash::vk;
    use sixteen_states::capabilities::Capabilities;
    use sixteen_states::cpu::Cpu;
    use sixteen_states::format::{FORMATS, Packing, TILE_ROWS};
    use sixteen_states::kernels::matmul::Activations;
    use sixteen_states::kernels::{Kernel, Matrix, Shard, Variant};
    use sixteen_states::recording::{Executor, Recorder};
    use std::ffi::CStr;
    use std::path::Path;
    use wgpu::naga::back::spv;
    use wgpu::naga::front::wgsl::parse_str;
    use wgpu::naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
    use wgpu::naga::valid::{Capabilities as Allowed, ValidationFlags, Validator};
    use wgpu::naga::{AddressSpace, ShaderStage};

    /// (format, rows of W, columns, rows of x, variant): matrices of an 8B model.
    const PRODUCTS: &[(&str, usize, usize, usize, &str)] = &[
        ("q4", 28672, 4096, 1, "split 1x16x16"),
        ("q4", 28672, 4096, 1, "split 1x16x32x2"),
        ("q8", 4096, 14336, 1, "split 1x4x64"),
        ("f16", 4096, 14336, 1, "split 1x4x64"),
        ("q4", 28672, 4096, 8, "split 8x8x32"),
        ("q4", 4096, 4096, 512, "tile"),
        ("q4", 4096, 4096, 512, "tile-half"),
        ("q4", 4096, 4096, 512, "dot-tile"),
    ];

    /// A kernel as Vulkan takes it, and the numbers of the bindings of its groups.
    struct Code {
        kernel: &'static str,
        words: Vec<u32>,
        groups: Vec<Vec<u32>>,
    }

    fn code(&(format, rows, cols, capacity, variant): &(&str, usize, usize, usize, &str)) -> Code {
        let device = Capabilities {
            f16: true,
            subgroups: Some((32, 32)),
            max_binding: 2 << 30,
            max_buffer: 2 << 30,
            max_workgroup_memory: 32 << 10,
            ..Capabilities::promised("a GPU", "vulkan")
        };
        let mut memory = Cpu::new();
        let format = FORMATS.iter().find(|f| f.name == format).expect("a format");
        let packing = Packing { format, group: if format.name == "f16" { 1 } else { 32 } };
        let tiles = rows.div_ceil(TILE_ROWS);
        let mut buffer = |words: usize| memory.create(words as u64 * 4, "buffer").expect("memory");
        let planes =
            (format.tile_words)(cols, packing.group).into_iter().map(|w| buffer(w * tiles)).collect();
        let shards = vec![Shard { first: 0, rows, packing, planes, order: None }];
        let weight = Matrix { rows, cols, shards, glu: None };
        let x = Activations { rows: buffer(capacity * 8), capacity, values: buffer(capacity * cols) };
        let out = buffer(capacity * weight.stride());
        let mut recorder = Recorder::new(&device);
        recorder.matmul_as(Variant::named(variant).expect("a variant"), x, &weight, out, true);
        let recording = recorder.finish();
        let dispatch = recording.dispatches.last().expect("a product");
        let kernel = Kernel::named(dispatch.kernel).expect("a kernel");
        let module = parse_str(&kernel.source(dispatch, &device).text).expect("WGSL");
        let info =
            Validator::new(ValidationFlags::all(), Allowed::all()).validate(&module).expect("valid WGSL");
        // As kernels are compiled to run.
        let unchecked = BoundsCheckPolicy::Unchecked;
        let options = spv::Options {
            lang_version: (1, 4),
            flags: spv::WriterFlags::empty(),
            bounds_check_policies: BoundsCheckPolicies {
                index: unchecked,
                buffer: unchecked,
                image_load: unchecked,
                binding_array: unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            ..Default::default()
        };
        let entry =
            spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".to_owned() };
        let words = spv::write_vec(&module, &info, &options, Some(&entry)).expect("SPIR-V");
        let mut groups = vec![Vec::new(); 2];
        for (_, variable) in module.global_variables.iter() {
            if let (AddressSpace::Storage { .. }, Some(at)) = (variable.space, &variable.binding) {
                groups[at.group as usize].push(at.binding);
            }
        }
        Code { kernel: kernel.name, words, groups }
    }

    fn text(name: &[std::ffi::c_char]) -> String {
        // SAFETY: drivers end names with a zero, and have room for it.
        unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
    }

    /// A device, and what tells of its pipelines.
    struct Driver {
        device: ash::Device,
        told: ash::khr::pipeline_executable_properties::Device,
    }

    impl Driver {
        /// The first device, and its name.
        fn open() -> Result<(Self, String), Box<dyn std::error::Error>> {
            // SAFETY: everything is used while its parent is there, of which none is ever destroyed: the process ends soon.
            unsafe {
                let entry = ash::Entry::load()?;
                let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
                let instance = entry.create_instance(
                    &vk::InstanceCreateInfo::default().application_info(&application),
                    None,
                )?;
                std::mem::forget(entry);
                let physical =
                    *instance.enumerate_physical_devices()?.first().ok_or("there is no Vulkan device")?;
                let name = text(&instance.get_physical_device_properties(physical).device_name);
                let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
                let mut tell = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                    .pipeline_executable_info(true);
                let mut halves = vk::PhysicalDeviceVulkan12Features::default().shader_float16(true);
                let mut storage =
                    vk::PhysicalDeviceVulkan11Features::default().storage_buffer16_bit_access(true);
                let extensions = [ash::khr::pipeline_executable_properties::NAME.as_ptr()];
                let info = vk::DeviceCreateInfo::default()
                    .queue_create_infos(&queues)
                    .enabled_extension_names(&extensions)
                    .push_next(&mut tell)
                    .push_next(&mut halves)
                    .push_next(&mut storage);
                let device = instance.create_device(physical, &info, None)?;
                let told = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
                Ok((Driver { device, told }, name))
            }
        }

        /// What the driver tells of a kernel: its numbers, and its code.
        fn compile(&self, code: &Code) -> Result<(Vec<(String, u64)>, String), vk::Result> {
            let device = &self.device;
            // SAFETY: the module is what naga makes of valid WGSL, and the layout has all of its bindings; nothing is used after the
            // device, which lives as long as the process.
            unsafe {
                let module = device
                    .create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&code.words), None)?;
                let mut sets = Vec::new();
                for group in &code.groups {
                    let binding = |&number: &u32| {
                        vk::DescriptorSetLayoutBinding::default()
                            .binding(number)
                            .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                            .descriptor_count(1)
                            .stage_flags(vk::ShaderStageFlags::COMPUTE)
                    };
                    let bindings: Vec<_> = group.iter().map(binding).collect();
                    let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
                    sets.push(device.create_descriptor_set_layout(&info, None)?);
                }
                let layout = device.create_pipeline_layout(
                    &vk::PipelineLayoutCreateInfo::default().set_layouts(&sets),
                    None,
                )?;
                let stage = vk::PipelineShaderStageCreateInfo::default()
                    .stage(vk::ShaderStageFlags::COMPUTE)
                    .module(module)
                    .name(c"main");
                let keep = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                    | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
                let info = [vk::ComputePipelineCreateInfo::default().flags(keep).stage(stage).layout(layout)];
                let pipelines = device.create_compute_pipelines(vk::PipelineCache::null(), &info, None);
                let pipeline = pipelines.map_err(|(_, error)| error)?[0];
                let its = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
                let number = |s: vk::PipelineExecutableStatisticKHR<'_>| match s.format {
                    vk::PipelineExecutableStatisticFormatKHR::UINT64 => Some((text(&s.name), s.value.u64)),
                    _ => None,
                };
                let numbers = self.told.get_pipeline_executable_statistics(&its)?;
                // First how long each part is, then what it is.
                let mut parts = self.told.get_pipeline_executable_internal_representations(&its)?;
                let mut texts: Vec<Vec<u8>> = parts.iter().map(|part| vec![0; part.data_size]).collect();
                for (part, text) in parts.iter_mut().zip(&mut texts) {
                    part.p_data = text.as_mut_ptr().cast();
                }
                let mut count = parts.len() as u32;
                let tell = self.told.fp().get_pipeline_executable_internal_representations_khr;
                tell(device.handle(), &its, &mut count, parts.as_mut_ptr()).result()?;
                let last =
                    texts.last().map(|text| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
                Ok((numbers.into_iter().filter_map(number).collect(), last.unwrap_or_default()))
            }
        }
    }

    /// Instructions of the longest loop of AMD's code: from a block on to the jump back to it.
    fn longest_loop(code: &str) -> Option<usize> {
        let (mut at, mut blocks, mut longest) = (0, Vec::new(), None);
        for line in code.lines() {
            if let Some(block) =
                line.strip_prefix("BB").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok())
            {
                blocks.push((block, at));
            } else if line.starts_with('\t') {
                at += 1;
                let words: Vec<&str> = line.split_whitespace().collect();
                let target = words.first().filter(|word| word.contains("branch")).and(words.get(1));
                let target = target.and_then(|word| word.strip_prefix("BB")?.parse::<usize>().ok());
                let begin = blocks.iter().find(|&&(block, _)| Some(block) == target);
                longest = longest.max(begin.map(|&(_, begin)| at - begin));
            }
        }
        longest
    }

    pub fn main() -> Result<(), Box<dyn std::error::Error>> {
        let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
        let (driver, name) = Driver::open()?;
        println!("on {name}");
        for (i, product) in PRODUCTS.iter().enumerate() {
            let (format, rows, cols, capacity, variant) = product;
            let code = code(product);
            let (numbers, text) = driver.compile(&code)?;
            let longest = longest_loop(&text).map(|n| format!("longest loop {n}; ")).unwrap_or_default();
            let wanted = |name: &str| !name.contains("ash") && !name.contains("Pre-Sched");
            let numbers: Vec<String> = numbers
                .iter()
                .filter(|(name, _)| wanted(name))
                .map(|(name, n)| format!("{name} {n}"))
                .collect();
            println!("{format} {rows}x{cols}, {capacity} rows, {variant}: {longest}{}", numbers.join("; "));
            if let Some(folder) = &folder {
                std::fs::write(Path::new(folder).join(format!("{i}-{}.txt", code.kernel)), text)?;
            }
        }
        Ok(())
    }
}
