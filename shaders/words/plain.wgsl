// Four words of storage, as they are loaded.

alias Four = vec4<u32>;

fn four_words(words: Four) -> vec4<u32> {
    return words;
}
