//! The trace of a request, as it crosses from one system to another.

/// The length of a `traceparent` of version 00, and of the known part of a later one.
const LENGTH: usize = 55;

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// A valid W3C `traceparent`: the ids of a trace and of a span in it, and whether it is sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(Box<str>);

impl TraceParent {
    /// Parses a header value (W3C Trace Context, section 3.2.2). A later version is read like
    /// version 00, as far as that knows it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let mut next = |length| {
            let is_hex = |part: &&str| {
                part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            };
            parts.next().filter(is_hex)
        };
        let (version, trace_id, span_id, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let is_nil = |id: &str| id.bytes().all(|b| b == b'0');
        let fits = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        (fits && !is_nil(trace_id) && !is_nil(span_id))
            .then(|| Self(format!("00-{trace_id}-{span_id}-{flags}").into()))
    }

    /// The header value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }

    /// The id of the calling span: 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> &str {
        self.0.get(36..52).unwrap_or_default()
    }

    /// Whether the caller records the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.0.get(53..).is_some_and(|flags| {
            u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & SAMPLED == SAMPLED)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_well_formed_traceparents_parse() {
        assert_eq!(TraceParent::parse(GOOD).unwrap().as_str(), GOOD);
        for bad in [
            "",
            "00-4bf9-00f0-01",
            &GOOD.to_uppercase(),
            &format!("{GOOD}-x"),
            &GOOD.replace("00-", "ff-"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace("00-4", "00é4"),
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_known() {
        let later = GOOD.replace("00-4", "cc-4");
        for text in [later.clone(), format!("{later}-more")] {
            assert_eq!(TraceParent::parse(&text).unwrap().as_str(), GOOD);
        }
        assert_eq!(TraceParent::parse(&format!("{later}.more")), None);
    }

    #[test]
    fn parts_are_those_of_the_header() {
        let trace = TraceParent::parse(GOOD).unwrap();
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.span_id(), "00f067aa0ba902b7");
        assert!(trace.is_sampled());
        let sampled =
            |flags: &str| TraceParent::parse(&GOOD.replace("-01", flags)).unwrap().is_sampled();
        assert_eq!(["-00", "-02", "-03", "-fe"].map(sampled), [false, false, true, false]);
    }
}
