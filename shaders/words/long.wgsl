// Four words of storage, as they are loaded: two at a time, for devices that load number by number.

alias Four = vec2<u64>;

fn four_words(words: Four) -> vec4<u32> {
    return vec4<u32>(u32(words.x), u32(words.x >> 32u), u32(words.y), u32(words.y >> 32u));
}
