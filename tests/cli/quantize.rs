//! `infer quantize`: what is written, what is said of it, and what is refused.

use super::run::{Model, llama, run, tiny};
use serde_json::json;

/// A model whose matrices have whole groups, with a tokenizer.
fn model() -> Model {
    let model = Model::copy("llama-gqa-llama3");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny("llama").join(file), model.file(file)).unwrap();
    }
    model
}

#[test]
fn what_is_written_runs_and_is_described() {
    let model = model();
    let out = |name: &str| model.file(name).to_str().unwrap().to_owned();
    for (args, name, layout, format, bits) in [
        (&[][..], "a", "compressed-tensors", "f16+q4/32", 4),
        (
            &["--symmetric", "--group", "64", "--quantizer", "rtn"],
            "b",
            "compressed-tensors",
            "f16+q4_0/64",
            4,
        ),
        (&["--to", "gptq", "-b", "8"], "c", "gptq", "q8/32", 8),
        (&["--symmetric"], "d.gguf", "q4_0", "f16+q4_0/32", 4),
        (&["--type", "q8_0"], "e.gguf", "q8_0", "f16+q8_0/32", 8),
        (&["--type", "f16"], "f.gguf", "f16", "f16", 16),
    ] {
        let path = out(name);
        let common = ["quantize", "-m", model.path(), "-o", &path, "--json"];
        let told = run(&[&common[..], args].concat()).json();
        assert_eq!((&told["layout"], &told["bits"]), (&json!(layout), &json!(bits)), "{name}");
        let error = told["relative_error"].as_f64().unwrap();
        assert!(error < 0.02 && (error > 0.0) == (bits < 16), "{name}: {error}");
        let bits_flag = if bits == 16 { "16" } else { "file" };
        let ran = run(&["-m", &path, "-d", "cpu", "-b", bits_flag, "-n", "5", "--json", "The other"]).json();
        assert_eq!(ran["format"], format, "{name}");
        let inspected = run(&["inspect", &path, "--json"]).json();
        assert_eq!(inspected["problem"], json!(null), "{name}");
        run(&common).failed(2, "exists already; choose another name, or --force", name);
        run(&[&common[..], args, &["--force"]].concat()).json();
        // A card comes with a directory.
        if !name.ends_with(".gguf") {
            let card = std::fs::read_to_string(model.file(name).join("README.md")).unwrap();
            assert!(
                card.contains(&format!("# {name}\n")) && card.contains("| self_attn.q_proj | 2 |"),
                "{card}"
            );
        }
    }
    let text = run(&["quantize", "-m", model.path(), "-o", &out("g")]).ok().out;
    assert!(text.contains("12 matrices at 4.65 bits a weight") && text.contains("mlp.up_proj"), "{text}");
}

#[test]
fn wrong_use_is_refused() {
    let model = model();
    let quantize = |args: &[&str]| run(&[&["quantize", "-m", model.path()], args].concat());
    let out = model.file("out").to_str().unwrap().to_owned();
    for (args, code, text) in [
        (&[][..], 2, "--output"),
        (&["-o", &out, "--bits", "3"], 2, "possible values: 4, 8"),
        (&["-o", &out, "--group", "16"], 2, "possible values: 32, 64, 128"),
        (&["-o", &out, "--quantizer", "best"], 2, "possible values: mse, rtn"),
        (&["-o", &out, "--to", "awq"], 2, "possible values: compressed-tensors, gptq, gguf"),
        (&["-o", &out, "--to", "gguf"], 2, "expected a name that ends with .gguf"),
        (&["-o", &out, "--type", "q4_0"], 2, "--type q4_0 is for --to gguf"),
        (&["-o", "o.gguf", "--to", "gptq"], 2, "names a GGUF file, and --to gptq writes a directory"),
        (&["-o", "o.gguf", "--group", "64"], 2, "blocks of GGUF files have 32 weights"),
        (&["-o", "o.gguf", "--type", "q4_0", "--symmetric"], 2, "cannot be used with"),
        (&["-o", model.path(), "--force"], 2, "that is where the model lies"),
        (&["-o", &format!("{out}/deeper")], 1, "there is no such directory to write in"),
    ] {
        quantize(args).failed(code, text, &format!("{args:?}"));
    }
    assert!(!model.file("out").exists());
    let small = llama();
    run(&["quantize", "-m", &small, "-o", &out]).failed(1, "choose a smaller --group", "no whole groups");
    run(&["quantize", "-o", &format!("{out}.gguf")]).failed(1, "is of type \"Unigram\"", "the model inside");
    run(&["quantize", "-m", "nowhere", "-o", &out]).failed(1, "nowhere", "no model");
    let help = run(&["quantize", "--help"]).ok().out;
    for text in ["Examples:", "--symmetric", "infer inspect OUT", "llama.cpp"] {
        assert!(help.contains(text), "{text}: {help}");
    }
}
