use proptest::prelude::*;

use super::super::tokenizer::tests::{byte_fallback, byte_level, open};
use super::*;

fn pieces(tokenizer: &Tokenizer, before: &[u32], ids: &[u32]) -> Vec<String> {
    let mut stream = TokenStream::new(tokenizer, before).unwrap();
    let mut pieces: Vec<_> = ids.iter().filter_map(|&id| stream.push(id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(|b| u32::from(b) + 3).collect()
}

#[test]
fn whole_characters_only() {
    let tokenizer = open(&byte_level(&[]));
    let ids: Vec<u32> = "é\u{1F600}a".bytes().map(u32::from).collect();
    assert_eq!(pieces(&tokenizer, &[], &ids), ["é", "\u{1F600}", "a", ""]);
    assert_eq!(pieces(&tokenizer, &[], &ids[..4]), ["é", "\u{FFFD}"]);
    // A byte that begins nothing, then a letter; a special token between the bytes of a character.
    assert_eq!(pieces(&tokenizer, &[], &[0xff, 97]).concat(), "\u{FFFD}a");
    assert_eq!(pieces(&tokenizer, &[], &[0xc3, 256, 0xa9, 9999]), ["é", ""]);
}

#[test]
fn bytes_that_belong_to_no_character_are_shown_in_time() {
    for (tokenizer, byte) in [(open(&byte_level(&[])), 0xf0), (open(&byte_fallback(&[])), 0xf3)] {
        let shown = pieces(&tokenizer, &[], &[byte; 300]);
        assert!(shown.len() > 250, "{}", shown.len());
        assert_eq!(shown.concat(), "\u{FFFD}".repeat(300));
    }
}

#[test]
fn spaces_of_sentencepiece() {
    let tokenizer = open(&byte_fallback(&["▁Hello", "▁world", "▁", "!"]));
    let ids = [259, 260, 262, 261, 261, 260];
    assert_eq!(pieces(&tokenizer, &[], &ids), ["Hello", " world", "!", " ", " ", " world", ""]);
    assert_eq!(pieces(&tokenizer, &[259], &[260]), [" world", ""]);
    assert_eq!(pieces(&tokenizer, &[259, 2], &[1, 260]), [" world", ""]);
    assert_eq!(
        pieces(&tokenizer, &[], &[261, 261, 259]).concat(),
        tokenizer.decode(&[261, 261, 259]).unwrap()
    );
}

#[test]
fn bytes_of_sentencepiece() {
    let tokenizer = open(&byte_fallback(&["▁Hello"]));
    let ids = [&[259][..], &bytes("你好\u{1F600}é"), &[259]].concat();
    assert_eq!(pieces(&tokenizer, &[], &ids), ["Hello", "你", "好", "\u{1F600}", "é", " Hello", ""]);
    // What was shown stays shown when the bytes after it turn out to be no character.
    let broken = [&bytes("你")[..], &bytes("好")[..2], &[259]].concat();
    assert_eq!(pieces(&tokenizer, &[], &broken), ["你", "\u{FFFD}\u{FFFD} Hello", ""]);
    assert_eq!(pieces(&tokenizer, &[], &broken[..5]), ["你", "\u{FFFD}\u{FFFD}"]);
}

#[test]
fn a_long_stream_costs_no_more_per_token() {
    let tokenizer = open(&byte_level(&[]));
    let mut stream = TokenStream::new(&tokenizer, &[]).unwrap();
    for id in "é\u{1F600} ab".bytes().cycle().take(5_000) {
        stream.push(id.into()).unwrap();
        assert!(stream.ids.len() <= 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_stream_is_the_text(text in "[a-c é你\u{1F600}▁\u{FFFD}\n]{0,40}") {
        // Tokens that end in the middle of characters: pairs of bytes across their borders.
        let across = "é你\u{1F600}你éé";
        let words: Vec<&[u8]> = across.as_bytes().windows(2).collect();
        let tokenizer = open(&byte_level(&words));
        let ids = tokenizer.encode(&text, false).unwrap();
        let shown = pieces(&tokenizer, &[], &ids);
        prop_assert_eq!(shown.concat(), text.as_str());
        // Bytes that spell U+FFFD cannot be told from bytes that wait for more.
        let text = text.replace(UNKNOWN, "");
        let tokenizer = open(&byte_fallback(&["a", "b", "▁", "▁a"]));
        let ids = tokenizer.encode(&text, false).unwrap();
        prop_assert_eq!(pieces(&tokenizer, &[], &ids).concat(), tokenizer.decode(&ids).unwrap());
    }

    #[test]
    fn any_ids_stream(ids in prop::collection::vec(0u32..300, 0..100)) {
        let tokenizer = open(&byte_level(&[b"Hello"]));
        prop_assert_eq!(pieces(&tokenizer, &[], &ids).concat(), tokenizer.decode(&ids).unwrap());
        pieces(&open(&byte_fallback(&["▁Hello", "▁"])), &ids, &ids);
    }

    #[test]
    fn stops_cut_the_text_at_the_first(
        text in "[abé]{0,30}",
        stops in prop::collection::vec("[abé]{0,4}", 0..4),
        cuts in prop::collection::vec(1usize..5, 1..10),
    ) {
        let mut matcher = StopMatcher::new(stops.clone());
        let (mut shown, mut stopped) = (String::new(), false);
        let mut chars = text.chars();
        for cut in cuts.into_iter().cycle() {
            let piece: String = chars.by_ref().take(cut).collect();
            if piece.is_empty() || stopped {
                break;
            }
            let (text, stop) = matcher.push(&piece);
            shown += &text;
            stopped = stop;
        }
        shown += &matcher.finish();
        let first = stops.iter().filter(|s| !s.is_empty()).filter_map(|s| text.find(s.as_str())).min();
        prop_assert_eq!(stopped, first.is_some());
        // A longer stop string that begins earlier may still be incomplete when a shorter one ends.
        let seen = &text[..first.unwrap_or(text.len()).max(shown.len())];
        prop_assert!(seen.starts_with(&shown));
        if first.is_none() {
            prop_assert_eq!(shown, text);
        } else {
            prop_assert!(stops.iter().all(|s| s.is_empty() || !shown.contains(s.as_str())));
        }
    }
}

#[test]
fn stop_strings_are_held_back() {
    let mut matcher = StopMatcher::new(["</s>".to_owned(), "\n\nUser".to_owned(), String::new()]);
    assert_eq!(matcher.push("a <"), ("a ".into(), false));
    assert_eq!(matcher.push("/b\n"), ("</b".into(), false));
    assert_eq!(matcher.push("\nUs"), (String::new(), false));
    assert_eq!(matcher.push("ers"), (String::new(), true));
    assert_eq!(matcher.push("more"), (String::new(), true));
    assert_eq!(matcher.finish(), "");
    let mut matcher = StopMatcher::new(["</s>".to_owned()]);
    assert_eq!(matcher.push("a </"), ("a ".into(), false));
    assert_eq!(matcher.finish(), "</");
    assert_eq!(StopMatcher::new([]).push("all"), ("all".into(), false));
}
