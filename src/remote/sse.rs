//! Room `remote`: server-sent events, read as they come: bytes in, the data of each event out. (WHATWG HTML, "Server-sent events",
//! 9.2.6: lines end with LF, CR LF or CR; a blank line ends an event; `:` begins a comment.)

use crate::error::{Error, Result};

/// An event's line may have so many bytes: no token has more.
const MOST_LINE_BYTES: usize = 4 << 20;

/// Takes bytes, in pieces cut anywhere, and finds events in them.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    begun: bool,
}

impl Events {
    /// Takes in what has come; the data of the events that it completes.
    ///
    /// # Errors
    /// A line has no end.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<String>> {
        let mut complete = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => complete.extend(self.end_line()),
                byte => {
                    if self.line.len() >= MOST_LINE_BYTES || self.data.len() >= MOST_LINE_BYTES {
                        let why = format!("it sends a line of more than {} MB", MOST_LINE_BYTES / 1_000_000);
                        return Err(Error::new("reading the server's answer", why)
                            .help("this may be no server of this kind: check its address"));
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(complete)
    }

    /// The stream is over; the data of an event that no blank line has ended.
    pub fn end(&mut self) -> Option<String> {
        let last = self.end_line();
        last.or_else(|| self.end_event())
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_event();
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => {
                let (name, value) = line.split_at(at);
                (name, value.get(1..).unwrap_or_default())
            }
            None => (line, [].as_slice()),
        };
        // Old servers of llama.cpp name the field of an error `error`.
        if matches!(name, b"data" | b"error") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.has_data = true;
        }
        None
    }

    fn end_event(&mut self) -> Option<String> {
        let data = std::mem::take(&mut self.data);
        // Whole events only: a character cut by the network is whole again here.
        std::mem::take(&mut self.has_data).then(|| String::from_utf8_lossy(&data).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}: hello\r\ndata: {\"a\":\r\ndata: \"ä🦀\"}\r\n\r\nevent: x\nid: 7\nretry: 3\ndata:one\n\ndata\n\n\n: ping\n\ndata: last\rdata: line\r\rdata: open";

    fn all(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
        let mut events = Events::default();
        let mut out: Vec<String> = pieces.flat_map(|piece| events.take(&piece).unwrap()).collect();
        out.extend(events.end());
        out
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let expected = ["{\"a\":\n\"ä🦀\"}", "one", "", "last\nline", "open"];
        assert_eq!(all(std::iter::once(STREAM.as_bytes().to_vec())), expected);
        for size in 1..STREAM.len() {
            assert_eq!(all(STREAM.as_bytes().chunks(size).map(<[u8]>::to_vec)), expected, "{size}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_an_error_not_memory() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        let error = (0..8).find_map(|_| events.take(&piece).err()).unwrap().to_string();
        assert!(error.contains("a line of more than 4 MB"), "{error}");
        let mut events = Events::default();
        let lines = "data: xxxxxxxxxxxxxxxx\n".repeat(1 << 16);
        assert!((0..8).any(|_| events.take(lines.as_bytes()).is_err()), "an event without an end");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400), cut in 0..400_usize) {
            let mut events = Events::default();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut cut_out = events.take(first).unwrap();
            cut_out.extend(events.take(second).unwrap());
            let mut whole = Events::default();
            proptest::prop_assert_eq!(cut_out, whole.take(&bytes).unwrap());
        }
    }
}
