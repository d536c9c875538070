//! Text in and text out.
//!
//! - [`Tokenizer`] turns text into token ids and back, from a model's `tokenizer.json`.
//! - [`TokenStream`] turns ids into text one at a time, whole characters only, and [`StopMatcher`]
//!   watches that text for stop strings.
//! - [`ChatTemplate`] renders a conversation into the prompt that a chat model was trained on.

pub mod chat;
pub mod stream;
pub mod tokenizer;

pub use chat::{ChatTemplate, Message};
pub use stream::{StopMatcher, TokenStream};
pub use tokenizer::Tokenizer;
