//! Templates in the styles that models come with, and templates that mean harm.

use super::*;

fn specials() -> BTreeMap<String, String> {
    [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn render(source: &str, messages: &[(&str, &str)]) -> Result<String> {
    let messages: Vec<_> = messages.iter().map(|&(role, content)| Message::new(role, content)).collect();
    ChatTemplate::new(source, specials())?.render(&messages, true)
}

fn problem(source: &str, messages: &[(&str, &str)]) -> String {
    let problem = render(source, messages).unwrap_err().to_string();
    assert!(!problem.contains('\n'), "{problem}");
    problem
}

const TALK: [(&str, &str); 3] = [("user", "Hi"), ("assistant", " Hello "), ("user", "2+2?")];

#[test]
fn chatml_with_a_default_system_message() {
    let source = "\
{% for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
";
    assert_eq!(
        render(source, &[("user", "Hi")]).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    let own = render(source, &[("system", "S"), ("user", "Hi")]).unwrap();
    assert!(own.starts_with("<|im_start|>system\nS<|im_end|>\n<|im_start|>user"), "{own}");
    let template = ChatTemplate::new(source, specials()).unwrap();
    let closed = template.render(&[Message::new("user", "Hi")], false).unwrap();
    assert!(closed.ends_with("Hi<|im_end|>\n"), "{closed}");
}

#[test]
fn llama_2_folds_the_system_message_and_checks_the_order() {
    let source = "\
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}\
{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}\
{% set system_message = false %}{% endif %}{% for message in loop_messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Roles must alternate user/assistant!') }}{% endif %}\
{% if loop.index0 == 0 and system_message != false %}\
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}\
{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}\
{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
    let expected = "<s>[INST] Hi [/INST] Hello </s><s>[INST] 2+2? [/INST]";
    assert_eq!(render(source, &TALK).unwrap(), expected);
    let system = render(source, &[("system", "S"), ("user", "Hi")]).unwrap();
    assert_eq!(system, "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nHi [/INST]");
    assert_eq!(
        problem(source, &[("user", "a"), ("user", "b")]),
        "the chat template refused the conversation: Roles must alternate user/assistant!"
    );
}

#[test]
fn llama_3_dates_its_system_header() {
    let source = "\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now(\"%d %b %Y\") %}
    {%- else %}
        {%- set date_string = \"26 Jul 2024\" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = \"\" %}
{%- endif %}
{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}
{%- if tools is not none %}{{- \"Environment: ipython\\n\" }}{%- endif %}
{{- \"Today Date: \" + date_string + \"\\n\\n\" }}
{{- system_message }}
{{- \"<|eot_id|>\" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
";
    let text = render(source, &[("system", " S "), ("user", "Hi")]).unwrap();
    let (head, tail) = text.split_once("Today Date: ").unwrap();
    let (date, tail) = tail.split_once("\n\n").unwrap();
    assert_eq!(head, "<s><|start_header_id|>system<|end_header_id|>\n\n");
    assert_eq!(date.split(' ').map(str::len).collect::<Vec<_>>(), [2, 3, 4], "{date}");
    assert!(date[7..].parse::<u32>().unwrap() >= 2024, "{date}");
    assert_eq!(
        tail,
        "S<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
}

#[test]
fn mistral_counts_turns_in_a_namespace() {
    let source = "\
{%- set user_messages = messages | selectattr('role', 'equalto', 'user') | list %}
{%- set ns = namespace(index=0) %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}{%- continue %}{%- endif %}
    {%- if message['content'] is string and message['content'] is not mapping %}
        {%- if message.role == 'user' %}
            {%- set ns.index = ns.index + 1 %}
            {{- '[INST]' ~ ns.index ~ '/' ~ (user_messages | length) ~ ' ' ~ message.content ~ '[/INST]' }}
        {%- else %}
            {{- message.content.split('</think>')[-1].lstrip() ~ eos_token }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
";
    let talk = [("system", "S"), ("user", "a"), ("assistant", "<think>x</think> b"), ("user", "c")];
    assert_eq!(render(source, &talk).unwrap(), "<s>[INST]1/2 a[/INST]b</s>[INST]2/2 c[/INST]");
}

#[test]
fn gemma_refuses_a_system_message() {
    let source = "\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}\
{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}\
{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}";
    let text = render(source, &TALK).unwrap();
    assert!(text.contains("<start_of_turn>model\nHello<end_of_turn>\n"), "{text}");
    let refused = problem(source, &[("system", "S")]);
    assert_eq!(refused, "the chat template refused the conversation: System role not supported");
    let in_macro = "{% macro m() %}{{ raise_exception('no') }}{% endmacro %}{{ m() }}";
    assert_eq!(problem(in_macro, &[]), "the chat template refused the conversation: no");
}

#[test]
fn generation_tags_are_transparent() {
    let source =
        "{% for m in messages %}\n{%- generation -%}\n {{ m.content }} {%- endgeneration %}!\n{% endfor %}";
    assert_eq!(render(source, &[("user", "a")]).unwrap(), "a!\n");
    assert_eq!(without_generation_tags("{%+generation%}{%endgeneration-%}"), "{%+if true%}{%endif-%}");
    for same in ["{% set generation = 1 %}", "{% generations %}", "{%", "{% generation", "{%{%"] {
        assert_eq!(without_generation_tags(same), same);
    }
}

#[test]
fn tojson_spells_as_python_does() {
    let data = "{'a': [1, 2.0, true, none], 'b<': \"é'\\n\", 'c': {}, 'd': []}";
    let json = render(&format!("{{{{ {data} | tojson }}}}"), &[]).unwrap();
    assert_eq!(json, r#"{"a": [1, 2.0, true, null], "b<": "é'\n", "c": {}, "d": []}"#);
    let json = render("{{ {'a': [1], 'b': []} | tojson(indent=2) }}", &[]).unwrap();
    assert_eq!(json, "{\n  \"a\": [\n    1\n  ],\n  \"b\": []\n}");
    assert_eq!(render("{{ 'é' | tojson(ensure_ascii=False) if True and not None }}", &[]).unwrap(), "\"é\"");
    assert!(problem("{{ 1 | tojson(ensure_ascii=true) }}", &[]).contains("not supported"));
    assert!(problem("{{ 1 | tojson(indent=1000000000000) }}", &[]).contains("expected at most"));
}

#[test]
fn dates() {
    let at = |format, seconds| strftime(format, seconds).unwrap();
    assert_eq!(at("%Y-%m-%d %H:%M:%S", 0), "1970-01-01 00:00:00");
    assert_eq!(
        at("%A, %d %B %Y, %I:%M %p, day %j", 951_782_399),
        "Monday, 28 February 2000, 11:59 PM, day 059"
    );
    assert_eq!(at("%a %-d %b %y %%", 951_782_400), "Tue 29 Feb 00 %");
    assert_eq!(at("%F %T %-I %e", 4_107_542_399), "2100-02-28 23:59:59 11 28");
    assert_eq!(at("%F", 4_107_542_400), "2100-03-01");
    assert_eq!(at("%F", 1_735_689_599), "2024-12-31");
    for bad in ["%", "%Q", "%-", "a %é"] {
        assert!(strftime(bad, 0).is_err(), "{bad}");
    }
}

#[test]
fn endless_templates_end_in_an_error() {
    let nested = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    assert!(problem(nested, &[]).contains("does not end within"), "steps");
    let flood = "{% for a in range(100000) %}{{ 'a' * 100000 }}{% endfor %}";
    assert!(problem(flood, &[]).contains("writes more than"), "output");
    let deep = "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";
    assert!(problem(deep, &[]).contains("recursion limit"), "recursion");
}

#[test]
fn little_source_does_not_make_much() {
    for (source, refusal) in [
        ("{{ [1]|batch(100000000000) }}", "batch is unknown"),
        ("{{ [1]|slice(100000000000) }}", "slice is unknown"),
        ("{{ [[1]]|map('batch', 100000000000)|list }}", "unknown filter"),
        ("{{ 'a\nb'|indent(100000000000000) }}", "expected at most"),
        ("{{ 'a\nb'|indent(width=100000000000000) }}", "expected at most"),
        ("{{ '%10000000000000d'|format(1) }}", "expected at most 4 digits"),
        ("{{ '%.10000000000000f'|format(1.5) }}", "expected at most 4 digits"),
        ("{{ '{:1000000000000}'.format(1) }}", "expected at most 4 digits"),
        ("{{ ('a'*1000000).replace('a', 'a'*1000000) }}", "a text of more than"),
        ("{{ ('a'*1000000)|replace('a', 'a'*1000000) }}", "a text of more than"),
        ("{{ range(100000)|join('a'*1000000) }}", "a text of more than"),
        ("{{ ('a'*1000000).join(range(100000)) }}", "a text of more than"),
        ("{{ 'aaa'.count('') }}", "counts what is empty"),
    ] {
        let problem = problem(source, &[]);
        assert!(problem.contains(refusal), "{source}: {problem}");
    }
}

#[test]
fn doubling_ends_in_an_error() {
    for (init, step) in [
        ("'aaaaaaaaaaaaaaaa'", "ns.s.replace('aaaaaaaa', 'aaaaaaaaaaaaaaaa')"),
        ("'aaaaaaaaaaaaaaaa'", "ns.s|replace('aaaaaaaa', 'aaaaaaaaaaaaaaaa')"),
        ("'aaaaaaaaaaaaaaaa'", "[ns.s, ns.s]|join"),
        ("'aaaaaaaaaaaaaaaa'", "''.join([ns.s, ns.s])"),
        ("'aaaaaaaaaaaaaaaa'", "'%s%s'|format(ns.s, ns.s)"),
    ] {
        let source = format!(
            "{{% set ns = namespace(s={init}) %}}{{% for i in range(60) %}}{{% set ns.s = {step} %}}{{% endfor %}}"
        );
        let problem = problem(&source, &[]);
        assert!(problem.contains("more than"), "{step}: {problem}");
    }
    // (By operators too, which `tests/cli` has, in a process of its own: memory is a process's.)
    // What doubles in each level of a value doubles when it is written.
    let pairs = "{% set ns = namespace(x='a' * 100000) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for end in ["{{ ns.x }}", "{{ ns.x|string }}", "{{ ns.x|tojson }}"] {
        assert!(render(&[pairs, end].concat(), &[]).is_err(), "{end}");
    }
}

#[test]
fn deep_values_do_not_run_out_of_stack() {
    // The steps of a template suffice for little more than these levels.
    const LEVELS: usize = 50;
    const TIMES: usize = MAX_STEPS as usize / (LEVELS + 10);
    let build = |times: usize, name: &str| {
        let value = ["[".repeat(LEVELS), "ns.x".to_owned(), "]".repeat(LEVELS)].concat();
        format!(
            "{{% set ns.x = [] %}}{{% for a in range({times}) %}}{{% set ns.x = {value} %}}{{% endfor %}}\
             {{% set {name} = ns.x %}}"
        )
    };
    let of_one = |end: &str| render(&["{% set ns = namespace() %}", &build(TIMES, "x"), end].concat(), &[]);
    let brackets = 2 * (TIMES * LEVELS + 1);
    assert_eq!(of_one("").unwrap(), "");
    assert_eq!(of_one("{{ x }}").unwrap().len(), brackets);
    assert_eq!(of_one("{{ x|string|length }}").unwrap(), brackets.to_string());
    assert_eq!(of_one("{{ x|tojson|length }}").unwrap(), brackets.to_string());
    assert!(of_one("{{ x|tojson(indent=1) }}").is_err());
    assert!(of_one("{{ x|pprint }}").is_err());
    assert_eq!(of_one("{{ x == [x] }} {{ x < [x] }} {{ [x, [x]]|sort|length }}").unwrap(), "False True 2");
    let of_two = |end: &str| {
        let two = [build(TIMES / 2, "x"), build(TIMES / 2, "y")].concat();
        render(&["{% set ns = namespace() %}", &two, end].concat(), &[])
    };
    assert_eq!(of_two("{{ x == y }} {{ x in [y] }} {{ [x, y]|unique|length }}").unwrap(), "True True 1");
    let endless = build(10 * TIMES, "x");
    let problem = problem(&["{% set ns = namespace() %}", &endless].concat(), &[]);
    assert!(problem.contains("does not end within"), "{problem}");
}

#[test]
fn a_namespace_that_holds_itself_is_an_error() {
    let two = "{% set a = namespace() %}{% set b = namespace() %}{% set a.x = [a] %}{% set b.x = [b] %}";
    for end in
        ["{{ a }}", "{{ a == b }}", "{{ [a, b]|sort }}", "{{ a|tojson }}", "{{ a ~ '' }}", "{{ {a: 1} }}"]
    {
        let problem = problem(&[two, end].concat(), &[]);
        assert!(
            problem.contains("broke the template engine") || problem.contains("writes more"),
            "{end}: {problem}"
        );
    }
    let kept = "{% set a = namespace(x=1, **{'y': 2}) %}{% set a.z = a.x + a.y %}{{ a.x }}{{ a.y }}{{ a.z }}";
    assert_eq!(render(kept, &[]).unwrap(), "123");
    assert!(problem("{{ namespace(1) }}", &[]).contains("expected object"));
}

#[test]
fn deep_sources_do_not_run_out_of_stack() {
    let n = 10_000;
    for (open, close) in [
        ("{% if 1 %}", "{% endif %}"),
        ("{{ (", ""),
        ("{{ [[[[[[[[", ""),
        ("{{ not not not not ", ""),
        ("{% for a in b %}", "{% endfor %}"),
        ("{% if 0 %}{% else %}", "{% endif %}"),
    ] {
        assert!(render(&(open.repeat(n / 2) + &close.repeat(n / 2)), &[]).is_err(), "{open}");
    }
    for (start, link, end) in [
        ("{% if 0 %}", "{% elif 0 %}", "{% endif %}"),
        ("{{ 1", "+1", " }}"),
        ("{{ a", ".a", " }}"),
        ("{{ 'a'", "|trim", " }}"),
        ("{{", "-", "1 }}"),
        ("{{", " not", " 1 }}"),
    ] {
        // Those that are shortest are as many as there is room for.
        let room = (MAX_SOURCE - start.len() - end.len()) / link.len();
        let links = link.repeat(if link.len() == 1 { room } else { 20_000.min(room) });
        let _ = render(&[start, &links, end].concat(), &[]);
    }
}

#[test]
fn what_takes_too_much_is_left_behind() {
    use std::sync::mpsc::channel;
    use std::time::Duration;
    let (release, wait) = channel::<()>();
    let waiting = move || wait.recv().is_ok();
    let problem = limits::run_within(Duration::from_millis(50), usize::MAX, waiting).unwrap_err().to_string();
    assert_eq!(problem, "the chat template takes more than 50ms");
    drop(release);
    if cfg!(target_os = "linux") {
        let (release, wait) = channel::<()>();
        let holding = move || (vec![1_u8; 128 << 20], wait.recv().is_ok());
        let problem = limits::run_within(Duration::from_secs(60), 64 << 20, holding).unwrap_err().to_string();
        assert_eq!(problem, "the chat template takes more than 64 MiB");
        drop(release);
    }
}

#[test]
fn bounded_filters_do_what_they_did() {
    assert_eq!(
        render("{{ '%s is %5.1f'|format('a', 1.25) }}{{ '{:>3}'.format(1) }}", &[]).unwrap(),
        "a is   1.2  1"
    );
    assert_eq!(
        render("{{ 'a\nb'|indent(2) }}{{ 'a\nb'|indent(width=1, first=true) }}", &[]).unwrap(),
        "a\n  b a\n b"
    );
    assert_eq!(
        render("{{ [1, 'a', none]|join('-') }}{{ ','.join(['a', 'b']) }}", &[]).unwrap(),
        "1-a-Nonea,b"
    );
}

#[test]
fn long_conversations_fit() {
    let source = "\
{%- set ns = namespace(index=0, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == 'user' and not(message.content.startswith('<t>') and message.content.endswith('</t>')) %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- else %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n<think>' + thought.strip('\\n') + '</think>' + content.lstrip('\\n') }}
        {%- set ns.index = ns.index + 1 %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}";
    let talk = [("user", "Hi"), ("assistant", "<think>x</think>Hello")].repeat(1000);
    let text = render(source, &talk).unwrap();
    assert_eq!(text.matches("<think>x</think>Hello<|im_end|>").count(), 1000);
}

#[test]
fn broken_templates_are_one_line_errors() {
    assert!(problem("{% if %}", &[]).starts_with("the chat template is not valid: "));
    assert!(problem("{% nonsense %}", &[]).starts_with("the chat template is not valid: "));
    assert!(problem("{{ missing.field.of }}", &[]).starts_with("the chat template failed: "));
    assert!(problem("{{ messages[0].content }}", &[]).starts_with("the chat template failed: "));
    assert!(problem("{{ missing() }}", &[]).starts_with("the chat template failed: "));
    assert!(problem(&" ".repeat(MAX_SOURCE + 1), &[]).contains("expected at most"));
    assert_eq!(render("[{{ missing }}{{ pad_token }}]", &[]).unwrap(), "[]");
}
