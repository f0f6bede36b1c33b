//! Stop strings in a stream of text: what may be the beginning of one is held back until it is decided.

/// Watches a stream for stop strings.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What may be shown after a piece of text came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// Show this and go on.
    Text(String),
    /// Show this and stop: a stop string followed it.
    Stop(String),
}

impl StopMatcher {
    /// Watches for `stops`; empty ones are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|s| !s.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Takes the next text.
    pub fn push(&mut self, text: &str) -> Matched {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Matched::Stop(std::mem::take(&mut self.held));
        }
        // The longest end of what is held that begins a stop string.
        let undecided = self
            .held
            .char_indices()
            .map(|(at, _)| at)
            .find(|&at| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..])))
            .unwrap_or(self.held.len());
        let rest = self.held.split_off(undecided);
        Matched::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The stream is over: what was held back belongs to it.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_string_split_over_pieces_is_found_and_never_shown() {
        let mut m = StopMatcher::new(&["END".into(), "x".into()]);
        assert_eq!(m.push("one E"), Matched::Text("one ".into()));
        assert_eq!(m.push("N"), Matched::Text(String::new()));
        assert_eq!(m.push("Dx"), Matched::Stop(String::new()));
    }

    #[test]
    fn text_that_only_looked_like_a_stop_string_is_shown_in_the_end() {
        let mut m = StopMatcher::new(&["日本語".into()]);
        assert_eq!(m.push("a日本"), Matched::Text("a".into()));
        assert_eq!(m.push("茶"), Matched::Text("日本茶".into()));
        assert_eq!(m.push("日"), Matched::Text(String::new()));
        assert_eq!(m.finish(), "日");
    }

    #[test]
    fn without_stop_strings_everything_passes_at_once() {
        let mut m = StopMatcher::new(&[String::new()]);
        assert_eq!(m.push("abc"), Matched::Text("abc".into()));
    }
}
