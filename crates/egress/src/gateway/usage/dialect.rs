//! Where each protocol tells what was used.

use super::{
    BYTES_OF_TOKEN, Tokens, Usage,
    scan::{Scanner, Sink, Value, model},
};

/// How an answer tells what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Dialect {
    /// Anthropic's Messages, also within Bedrock's and Vertex's.
    Anthropic,
    /// OpenAI's Chat Completions and Responses.
    OpenAi,
    /// Gemini's.
    Gemini,
    /// Bedrock's Converse.
    Converse,
}

/// What was found so far. Providers tell totals and tell them again: the largest is the last.
#[derive(Debug)]
pub(super) struct Found {
    dialect: Dialect,
    /// All that was read, cached or not, where the dialect counts so.
    read: u64,
    tokens: Tokens,
    cache_write_long: u64,
    model: Option<String>,
    /// Bytes of what the model said.
    text: u64,
    /// Whether the provider told what it all came to.
    is_final: bool,
    told: bool,
}

impl Found {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            read: 0,
            tokens: Tokens::default(),
            cache_write_long: 0,
            model: None,
            text: 0,
            is_final: false,
            told: false,
        }
    }

    /// What it comes to, with a request of `sent` bytes.
    pub(super) fn usage(&self, sent: u64) -> Option<Usage> {
        if !self.told && self.text == 0 {
            return None;
        }
        let mut tokens = self.tokens;
        if matches!(self.dialect, Dialect::OpenAi | Dialect::Gemini) {
            tokens.input = self.read.saturating_sub(tokens.cache_read + tokens.cache_write);
        }
        if self.dialect == Dialect::Gemini {
            tokens.output += tokens.reasoning;
        }
        let mut estimated = false;
        if !self.is_final {
            let seen = self.text.div_ceil(BYTES_OF_TOKEN);
            estimated = true;
            tokens.output = tokens.output.max(seen);
            if tokens.input + tokens.cache_read + tokens.cache_write == 0 {
                tokens.input = sent.div_ceil(BYTES_OF_TOKEN);
            }
        }
        (!tokens.is_empty()).then(|| Usage {
            tokens,
            cache_write_long: self.cache_write_long.min(tokens.cache_write),
            model: self.model.clone(),
            estimated,
        })
    }

    fn anthropic(&mut self, path: &str, value: &Value<'_>) {
        let (path, begins) = match path.strip_prefix("message.") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let tokens = &mut self.tokens;
        match (path, value) {
            ("usage.input_tokens", Value::Number(n)) => raise(&mut tokens.input, *n),
            ("usage.output_tokens", Value::Number(n)) => {
                raise(&mut tokens.output, *n);
                self.is_final |= !begins;
            }
            ("usage.cache_read_input_tokens", Value::Number(n)) => {
                raise(&mut tokens.cache_read, *n);
            }
            ("usage.cache_creation_input_tokens", Value::Number(n)) => {
                raise(&mut tokens.cache_write, *n);
            }
            ("usage.cache_creation.ephemeral_1h_input_tokens", Value::Number(n)) => {
                raise(&mut self.cache_write_long, *n);
            }
            ("model", Value::Text { text, .. }) => {
                if self.model.is_none() {
                    self.model = model(text);
                }
                return;
            }
            (
                "delta.text" | "delta.thinking" | "delta.partial_json" | "content.text"
                | "content.thinking",
                Value::Text { length, .. },
            ) => {
                self.text += length;
                return;
            }
            _ => return,
        }
        self.told = true;
    }

    fn openai(&mut self, path: &str, value: &Value<'_>) {
        let path = path.strip_prefix("response.").unwrap_or(path);
        let tokens = &mut self.tokens;
        match (path, value) {
            ("usage.prompt_tokens" | "usage.input_tokens", Value::Number(n)) => {
                raise(&mut self.read, *n);
                self.is_final = true;
            }
            ("usage.completion_tokens" | "usage.output_tokens", Value::Number(n)) => {
                raise(&mut tokens.output, *n);
            }
            (
                "usage.prompt_tokens_details.cached_tokens"
                | "usage.input_tokens_details.cached_tokens"
                | "usage.prompt_cache_hit_tokens",
                Value::Number(n),
            ) => raise(&mut tokens.cache_read, *n),
            (
                "usage.completion_tokens_details.reasoning_tokens"
                | "usage.output_tokens_details.reasoning_tokens",
                Value::Number(n),
            ) => raise(&mut tokens.reasoning, *n),
            ("model", Value::Text { text, .. }) => {
                if self.model.is_none() {
                    self.model = model(text);
                }
                return;
            }
            (
                "choices.delta.content"
                | "choices.delta.reasoning_content"
                | "choices.delta.reasoning"
                | "choices.delta.refusal"
                | "choices.delta.tool_calls.function.arguments"
                | "choices.delta.function_call.arguments"
                | "choices.text"
                | "choices.message.content"
                | "delta"
                | "output.content.text",
                Value::Text { length, .. },
            ) => {
                self.text += length;
                return;
            }
            _ => return,
        }
        self.told = true;
    }

    fn gemini(&mut self, path: &str, value: &Value<'_>) {
        // As its clients for people's own accounts have it.
        let path = path.strip_prefix("response.").unwrap_or(path);
        let tokens = &mut self.tokens;
        match (path, value) {
            ("usageMetadata.promptTokenCount", Value::Number(n)) => raise(&mut self.read, *n),
            ("usageMetadata.candidatesTokenCount", Value::Number(n)) => {
                raise(&mut tokens.output, *n);
            }
            ("usageMetadata.cachedContentTokenCount", Value::Number(n)) => {
                raise(&mut tokens.cache_read, *n);
            }
            ("usageMetadata.thoughtsTokenCount", Value::Number(n)) => {
                raise(&mut tokens.reasoning, *n);
            }
            ("candidates.finishReason", Value::Text { .. }) => {
                self.is_final = true;
                return;
            }
            ("modelVersion", Value::Text { text, .. }) => {
                if self.model.is_none() {
                    self.model = model(text);
                }
                return;
            }
            ("candidates.content.parts.text", Value::Text { length, .. }) => {
                self.text += length;
                return;
            }
            _ => return,
        }
        self.told = true;
    }

    fn converse(&mut self, path: &str, value: &Value<'_>) {
        let tokens = &mut self.tokens;
        match (path, value) {
            ("usage.inputTokens", Value::Number(n)) => raise(&mut tokens.input, *n),
            ("usage.outputTokens", Value::Number(n)) => {
                raise(&mut tokens.output, *n);
                self.is_final = true;
            }
            ("usage.cacheReadInputTokens", Value::Number(n)) => raise(&mut tokens.cache_read, *n),
            ("usage.cacheWriteInputTokens", Value::Number(n)) => {
                raise(&mut tokens.cache_write, *n);
            }
            (
                "delta.text"
                | "delta.toolUse.input"
                | "delta.reasoningContent.text"
                | "output.message.content.text",
                Value::Text { length, .. },
            ) => {
                self.text += length;
                return;
            }
            _ => return,
        }
        self.told = true;
    }

    /// An event within an event: Bedrock puts those of a model's own protocol into `bytes`.
    fn within(&mut self, text: &[u8]) {
        use base64::Engine as _;
        let text: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\\').collect();
        if let Ok(event) = base64::engine::general_purpose::STANDARD.decode(text) {
            Scanner::default().feed(&event, &mut Inner(self));
        }
    }

    fn saw(&mut self, path: &str, value: &Value<'_>) {
        match self.dialect {
            Dialect::Anthropic => self.anthropic(path, value),
            Dialect::OpenAi => self.openai(path, value),
            Dialect::Gemini => self.gemini(path, value),
            Dialect::Converse => self.converse(path, value),
        }
    }
}

/// More than any model can take or say in one answer, many times over.
const MAX_COUNT: u64 = 1 << 28;

fn raise(counted: &mut u64, told: u64) {
    // What is more is no count: nobody's budget is to be gone by a slip of a provider's, and sums
    // must stay within what is stored.
    if told <= MAX_COUNT {
        *counted = (*counted).max(told);
    }
}

impl Sink for Found {
    fn value(&mut self, path: &str, value: &Value<'_>) {
        match value {
            Value::Text { text, .. } if path == "bytes" => self.within(text),
            _ => self.saw(path, value),
        }
    }
}

/// What is found in an event within an event; there are none within that.
struct Inner<'a>(&'a mut Found);

impl Sink for Inner<'_> {
    fn value(&mut self, path: &str, value: &Value<'_>) {
        self.0.saw(path, value);
    }
}
