//! The small grammars inside the policy's strings. Each parses one piece of text, knows nothing of
//! TOML or of places, and says what is wrong and what to do.

pub mod address;
pub mod duration;
pub mod key;
pub mod limit;
pub mod name;
pub mod over;
pub mod pattern;
pub mod share;
