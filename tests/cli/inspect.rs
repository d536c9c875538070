//! `infer inspect`: what would run and how, what would not and why.

use super::run::{Model, llama, run};

fn packed(name: &str) -> String {
    format!("{}/tests/data/formats/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_file_is_told_by_its_formats_and_its_memory() {
    let found = run(&["inspect", &packed("gguf-native.gguf"), "--ctx", "64", "--json"]).json();
    assert_eq!((found["architecture"].as_str(), found["problem"].as_str()), (Some("LlamaForCausalLM"), None));
    assert_eq!((found["config"]["layers"].as_u64(), found["context"].as_u64()), (Some(2), Some(64)));
    assert_eq!(found["tokenizer"]["eos"], "</s>");
    let ways: Vec<&str> =
        found["memory"].as_array().unwrap().iter().map(|m| m["bits"].as_str().unwrap()).collect();
    assert_eq!(ways, ["file", "16", "8", "4"]);
    let weights = |i: usize| found["memory"][i]["weight_bytes"].as_u64().unwrap();
    assert!(weights(0) < weights(2) && weights(2) < weights(1), "{}", found["memory"]);
    let encodings = found["encodings"].as_array().unwrap();
    let runs_as = |name: &str| encodings.iter().find(|e| e["encoding"] == name).unwrap()["runs_as"].clone();
    assert_eq!(runs_as("Q4_K"), "as it is, q4_k");
    assert_eq!(runs_as("F32"), "32-bit floats");
    let tensors: u64 = encodings.iter().map(|e| e["tensors"].as_u64().unwrap()).sum();
    assert_eq!(Some(tensors), found["tensors"].as_u64());

    let text = run(&["inspect", &packed("gguf-others.gguf")]).ok().out;
    for said in ["LlamaForCausalLM: runs", "MXFP4", "unpacked to 16-bit floats", "-b file", "ends with </s>"]
    {
        assert!(text.contains(said), "{said}: {text}");
    }
    // Floats beside codes stay floats.
    let found = run(&["inspect", &packed("gptq"), "--json"]).json();
    let floats = found["encodings"].as_array().unwrap().iter().filter(|e| e["encoding"] == "F16");
    let runs: Vec<&str> = floats.map(|e| e["runs_as"].as_str().unwrap()).collect();
    assert!(runs.contains(&"16-bit floats") && !runs.contains(&"packed to --bits"), "{found}");
    // A model of images beside it is no part of what runs.
    let multimodal = format!("{}/tests/data/tiny/gemma3-multimodal", env!("CARGO_MANIFEST_DIR"));
    let text = run(&["inspect", &multimodal]).ok().out;
    assert!(text.contains("34 tensors of a model of images") && text.contains("28 tensors,"), "{text}");
    // Which codes do not run as they are, and why.
    for (name, encoding, expected) in [
        ("gptq-3", "GPTQ 3 bits", "as it is, q4/32"),
        ("gptq-act-order", "GPTQ 4 bits in the order of activations", "as it is, q4/32"),
        ("bitsandbytes-nf4", "bitsandbytes nf4", "as it is, nf4/64"),
        ("bitsandbytes-fp4", "bitsandbytes fp4", "as it is, fp4/64"),
        ("mxfp4", "MXFP4", "as it is, mxfp4"),
    ] {
        let found = run(&["inspect", &packed(name), "--json"]).json();
        let encodings = found["encodings"].as_array().unwrap();
        let codes = encodings.iter().find(|e| e["encoding"] == encoding);
        assert_eq!(codes.unwrap_or_else(|| panic!("{found}"))["runs_as"], expected, "{name}");
    }
    let text = run(&["inspect", &llama()]).ok().out;
    assert!(text.contains("packed to --bits") && !text.contains("-b file"), "{text}");
    let text = run(&["inspect"]).ok().out;
    assert!(text.contains("also the output matrix"), "{text}");
}

#[test]
fn what_cannot_run_is_told_with_the_reason() {
    let model = Model::copy("llama");
    let config = std::fs::read_to_string(model.file("config.json")).unwrap();
    model.write("config.json", &config.replace("LlamaForCausalLM", "MambaForCausalLM"));
    let found = run(&["inspect", model.path(), "--json"]).json();
    assert!(found["problem"].as_str().unwrap().contains("\"MambaForCausalLM\" is not supported"), "{found}");
    assert!(found["parameters"].as_u64().unwrap() > 0 && found["memory"].as_array().unwrap().is_empty());
    run(&["inspect", "/no/such/model"]).failed(1, "there is no such file", "no file");
    run(&["inspect", &packed("gguf-native.gguf"), "--ctx", "4096"]).failed(2, "--ctx is 4096", "context");
}

/// The whole way of a file with codes: as it is unless something else is asked for.
#[test]
fn a_packed_file_runs_as_it_is() {
    let model = packed("gguf-native.gguf");
    let common = ["-m", &model, "-d", "cpu", "--temp", "0", "-n", "4", "--raw", "--json", "the"];
    let own = run(&common).json();
    assert_eq!(own["embed_format"], "q6_k");
    assert!(own["format"].as_str().unwrap().contains("q4_k+q5_0/32"), "{own}");
    let same = run(&[&["-b", "file"], &common[..]].concat()).json();
    assert_eq!(same["tokens"], own["tokens"]);
    assert_eq!(run(&[&["-b", "4"], &common[..]].concat()).json()["format"], "q4/32");
    run(&[&["-b", "4", "--embed-bits", "file"], &common[..]].concat()).failed(
        2,
        "either both are \"file\"",
        "bits",
    );
    let others = packed("gguf-others.gguf");
    let noted = run(&["-m", &others, "-d", "cpu", "-n", "2", "--raw", "the"]).ok();
    assert!(noted.err.contains("are unpacked to 16-bit floats: no kernel reads them"), "{}", noted.err);
    let bench =
        run(&["bench", "-m", &model, "-d", "cpu", "-r", "1", "-p", "0", "-n", "2", "-o", "json"]).json();
    assert_eq!(bench[0]["format"], "f16");
    assert!(bench[1]["format"].as_str().unwrap().contains("q4_k"), "{bench}");
}
