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
        // Rows of 176 columns are not whole groups of 32 or 64.
        let uneven = told["uneven"].as_array().unwrap();
        assert_eq!(uneven.len(), if bits == 16 || layout == "gptq" { 0 } else { 2 }, "{name}: {uneven:?}");
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
        (&["-o", &out, "--quantizer", "best"], 2, "possible values: mse, rtn, hqq, gptq, awq"),
        (&["-o", &out, "--states", "1"], 2, "1 is not in 2..=256"),
        (&["-o", &out, "--states", "8", "--bits", "8"], 2, "cannot be used with"),
        (&["-o", &out, "--bits-for", "down_proj"], 2, "as in down_proj=8"),
        (&["-o", &out, "--bits-for", "down_proj=5"], 2, "4, 8 or 16"),
        (&["-o", &out, "--bits-for", "=8"], 2, "expected a part of a name"),
        (
            &["-o", &out, "--bits-for", "down_pro_j=8"],
            2,
            "\"down_pro_j\" fits no matrix; the first of them are model.",
        ),
        (&["-o", &out, "--bits-for", "*=16"], 2, "there is nothing to quantize"),
        (&["-o", &out, "--bits-for", "down_proj=8", "--to", "gptq"], 2, "gptq stores all matrices alike"),
        (&["-o", &out, "--auto-bits", "5", "--to", "gptq"], 2, "gptq stores all matrices alike"),
        (&["-o", &out, "--auto-bits", "3"], 2, "expected 4 to 16 bits a weight"),
        (&["-o", &out, "--auto-bits", "nan"], 2, "expected 4 to 16 bits a weight"),
        (&["-o", &out, "--auto-bits", "5", "--bits-for", "up=8"], 2, "cannot be used with"),
        (&["-o", &out, "--calibration", "text.txt"], 2, "--calibration is for --quantizer gptq or awq"),
        (&["-o", &out, "--calibration-tokens", "0", "--quantizer", "gptq"], 2, "--calibration-tokens"),
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
    let images = Model::copy("gemma3-multimodal");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny("llama").join(file), images.file(file)).unwrap();
    }
    let of_images = "is one part of a model: what would be written";
    run(&["quantize", "-m", images.path(), "-o", &out]).failed(1, of_images, "a model of images too");
    let help = run(&["quantize", "--help"]).ok().out;
    for text in ["Examples:", "--symmetric", "infer inspect OUT", "llama.cpp"] {
        assert!(help.contains(text), "{text}: {help}");
    }
}

/// Other versions of a model as arms: the same numbers in another file differ by nothing, codes by something, and codes
/// from what they unpack to by rounding.
#[test]
fn files_are_arms_of_the_experiment() {
    let model = Model::copy("llama-linear-bias");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny("llama").join(file), model.file(file)).unwrap();
    }
    let out = |name: &str| model.file(name).to_str().unwrap().to_owned();
    let (codes, floats, text) = (out("codes"), out("floats.gguf"), out("text.txt"));
    run(&["quantize", "-m", model.path(), "-o", &codes]).ok();
    run(&["quantize", "-m", model.path(), "-o", &floats, "--type", "f16"]).ok();
    model.write("text.txt", &"The other thing is that he was not there, and so on. ".repeat(12));
    let ab = |model: &str, arms: &str| {
        run(&["ab", "-d", "cpu", "-m", model, "--arms", arms, "--text", &text, "--no-controls", "--json"])
    };
    let found = ab(model.path(), &format!("f16,{codes},{floats}")).json();
    let kl = |i: usize| found["comparisons"][i]["teacher_forced"]["kl"]["mean"].as_f64().unwrap();
    assert!(kl(0) > 1e-4 && kl(1).abs() < 1e-9, "{} {}", kl(0), kl(1));
    let arms = found["arms"].as_array().unwrap();
    assert_eq!((&arms[1]["name"], &arms[1]["states"]), (&json!(codes), &json!(16)));
    assert!((8.2..8.4).contains(&arms[1]["bits"].as_f64().unwrap()), "{}", arms[1]);
    let error = arms[1]["relative_error"].as_f64().unwrap();
    assert!(error > 5e-4 && error < 5e-3, "{error}");
    assert!(arms[2]["relative_error"].as_f64().unwrap() < 1e-6, "{}", arms[2]);

    let found = ab(&codes, "f16,file").json();
    let kl = found["comparisons"][0]["teacher_forced"]["kl"]["mean"].as_f64().unwrap();
    assert!(kl.abs() < 1e-5, "{kl}");

    ab(model.path(), "f16,file").failed(2, "holds no codes", "floats");
    ab(model.path(), &format!("f16,{}", llama())).failed(
        2,
        "its hidden_size is 48, expected the model's, 64",
        "sizes",
    );
    let other = tiny("qwen3").to_str().unwrap().to_owned();
    ab(model.path(), &format!("f16,{other}")).failed(
        2,
        "its architecture is Qwen3ForCausalLM",
        "architecture",
    );
    ab(model.path(), &format!("f16,{}", out("absent"))).failed(
        2,
        "is none, expected f16, q8, q4",
        "no such file",
    );
    ab(model.path(), &format!("f16,{}", out("text.txt"))).failed(
        1,
        "expected a .safetensors or .gguf",
        "no model",
    );
    // A GGUF file has these positions as a tensor.
    let stretched = self::model();
    let file = stretched.file("f.gguf").to_str().unwrap().to_owned();
    run(&["quantize", "-m", stretched.path(), "-o", &file, "--type", "f16"]).ok();
    ab(stretched.path(), &format!("f16,{file}")).failed(2, "its stretch of positions is None", "positions");
}

/// With a text, with the one that ships, and with texts that are none.
#[test]
fn calibration_reads_a_text() {
    let model = model();
    let out = |name: &str| model.file(name).to_str().unwrap().to_owned();
    model.write("text.txt", &"The other thing is that he was not there, and so on. ".repeat(12));
    let text = out("text.txt");
    for (args, name, source, unscaled) in [
        (&["--quantizer", "gptq", "--calibration", &text][..], "a", text.as_str(), 0),
        (&["--quantizer", "awq", "--calibration", &text], "b", text.as_str(), 2),
        (
            &["--quantizer", "gptq", "--calibration-tokens", "70"],
            "c",
            "the text that ships with the program",
            0,
        ),
        (
            &["--quantizer", "awq", "--symmetric", "--calibration-tokens", "70"],
            "d.gguf",
            "the text that ships with the program",
            2,
        ),
    ] {
        let path = out(name);
        let common = ["quantize", "-m", model.path(), "-o", &path, "-d", "cpu", "--json"];
        let told = run(&[&common[..], args].concat()).json();
        assert_eq!(told["calibration"]["text"], source, "{name}");
        let tokens = told["calibration"]["tokens"].as_u64().unwrap();
        assert!(tokens == 70 || source == text && tokens > 100, "{name}: {tokens}");
        assert_eq!(told["unscaled"].as_array().unwrap().len(), unscaled, "{name}");
        assert_eq!(told["unseen"], json!([]), "{name}");
        run(&["-m", &path, "-d", "cpu", "-n", "5", "--json", "The other"]).json();
    }
    // Which rows an expert sees is not known.
    let experts = Model::copy("qwen3-moe");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny("llama").join(file), experts.file(file)).unwrap();
    }
    let path = out("experts");
    let common = ["quantize", "-m", experts.path(), "-o", &path, "-d", "cpu", "--json", "--force"];
    let told = run(&[&common[..], &["--quantizer", "gptq"]].concat()).json();
    assert_eq!((told["unseen"].as_array().unwrap().len(), &told["matrices"]), (30, &json!(38)));
    let told = run(&[&common[..], &["--auto-bits", "5.5"]].concat()).json();
    assert_eq!(told["parts"].as_array().unwrap().len(), 2 * 3);
    // Half of a character of two bytes.
    std::fs::write(model.file("half.txt"), b"The other th\xc3").unwrap();
    std::fs::File::create(model.file("huge.txt")).unwrap().set_len(1 << 40).unwrap();
    model.write("empty.txt", "");
    model.write("blank.txt", " \n\t ");
    let refused = out("refused");
    for (file, problem) in [
        ("half.txt", "is not UTF-8 text: byte 12 is no character"),
        ("huge.txt", "expected a shorter text"),
        ("empty.txt", "holds no text to calibrate on"),
        ("blank.txt", "holds no text to calibrate on"),
        ("absent.txt", "absent.txt"),
        ("", "directory"),
    ] {
        let file = out(file);
        let args =
            ["quantize", "-m", model.path(), "-o", &refused, "--quantizer", "gptq", "--calibration", &file];
        run(&[&args[..], &["-d", "cpu"]].concat()).failed(1, problem, &file);
    }
    assert!(!model.file("refused").exists());
}

/// Matrices stored otherwise, by name and by a budget that is not exceeded, and fewer states.
#[test]
fn bits_differ_by_matrix() {
    let model = Model::copy("llama-gqa-llama3");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny("llama").join(file), model.file(file)).unwrap();
    }
    let out = |name: &str| model.file(name).to_str().unwrap().to_owned();
    let quantize = |name: &str, args: &[&str]| {
        let path = out(name);
        let common = ["quantize", "-m", model.path(), "-o", &path, "-d", "cpu", "--json"];
        run(&[&common[..], args].concat()).json()
    };
    let told = quantize("a", &["--bits-for", "q_proj=8", "--bits-for", "*.layers.1.self_attn.*=16"]);
    assert_eq!(told["stored"], json!({"4 bits / 32": 7, "8 bits / 32": 1}));
    assert_eq!(run(&["inspect", &out("a"), "--json"]).json()["problem"], json!(null));
    let told = quantize("b.gguf", &["--bits-for", "q_proj=8", "--bits-for", "layers.1.self_attn.q=4"]);
    assert_eq!(told["stored"], json!({"4 bits / 32": 11, "8 bits / 32": 1}));
    let told = quantize("c", &["--states", "6"]);
    assert_eq!((&told["states"], &told["bits"]), (&json!(6), &json!(4)));
    let told = quantize("d", &["--states", "17"]);
    assert_eq!((&told["states"], &told["bits"]), (&json!(17), &json!(8)));

    let mut last = f64::INFINITY;
    for (name, average) in [("e", "4.7"), ("f", "6"), ("g", "9")] {
        let told = quantize(name, &["--auto-bits", average, "--calibration-tokens", "200"]);
        let found = told["bits_per_weight"].as_f64().unwrap();
        assert!(found <= average.parse::<f64>().unwrap(), "{average}: {found}");
        let error = told["relative_error"].as_f64().unwrap();
        assert!(error < last, "{average}: {error} {last}");
        last = error;
        let parts = told["parts"].as_array().unwrap();
        assert!(parts.iter().all(|part| part["kl"].as_f64().unwrap() > 0.0), "{told}");
        run(&["-m", &out(name), "-d", "cpu", "-n", "5", "--json", "The other"]).json();
    }
    let path = out("h");
    let args = ["quantize", "-m", model.path(), "-o", &path, "-d", "cpu", "--auto-bits", "4.1"];
    run(&args).failed(2, "--auto-bits is 4.1, the least that can be stored is 4.", "too little");
    let args = ["--auto-bits", "5.5", "--calibration-tokens", "200"];
    let told = quantize("i.gguf", &args);
    assert!(told["bits_per_weight"].as_f64().unwrap() <= 5.5, "{told}");
}
