//! Events as JSON, one object a line, with the fields beside the time, the level and the target.
//
// Not the format of `tracing-subscriber` (0.3): it writes the same in twice the time, most of it in
// the layers between `serde_json` and a string, and there is a line for each request.

use std::fmt::{self, Debug, Write as _};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

/// Writes an event as a line of JSON.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        line.write_str(r#"{"timestamp":""#)?;
        SystemTime.format_time(&mut line)?;
        line.write_str(r#"","level":""#)?;
        line.write_str(metadata.level().as_str())?;
        line.write_char('"')?;
        let mut fields = Fields { line: &mut line, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        line.write_str(r#","target":""#)?;
        Escaped(&mut line).write_str(metadata.target())?;
        line.write_str("\"}\n")
    }
}

/// Writes each field with a comma before it.
struct Fields<'a, 'w> {
    line: &'a mut Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_, '_> {
    /// Writes a field whose value is JSON as it is.
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.result = self.result.and_then(|()| {
            self.write_name(field)?;
            self.line.write_fmt(value)
        });
    }

    fn write_name(&mut self, field: &Field) -> fmt::Result {
        self.line.write_str(",\"")?;
        Escaped(self.line).write_str(field.name())?;
        self.line.write_str("\":")
    }

    fn write_text(&mut self, field: &Field, text: impl FnOnce(Escaped<'_, '_>) -> fmt::Result) {
        self.result = self.result.and_then(|()| {
            self.write_name(field)?;
            self.line.write_char('"')?;
            text(Escaped(self.line))?;
            self.line.write_char('"')
        });
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write_text(field, |mut text| write!(text, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write_text(field, |mut text| text.write_str(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.write(field, format_args!("{value:?}"));
        } else {
            self.write(field, format_args!("null"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, format_args!("{value}"));
    }
}

/// Writes the inside of a JSON string.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        while let Some(at) = rest.bytes().position(is_special)
            && let Some((before, after)) = rest.split_at_checked(at)
        {
            self.0.write_str(before)?;
            let mut characters = after.chars();
            if let Some(special) = characters.next() {
                self.write_special(special)?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

impl Escaped<'_, '_> {
    fn write_special(&mut self, special: char) -> fmt::Result {
        match special {
            '"' => self.0.write_str("\\\""),
            '\\' => self.0.write_str("\\\\"),
            '\n' => self.0.write_str("\\n"),
            '\r' => self.0.write_str("\\r"),
            '\t' => self.0.write_str("\\t"),
            other => write!(self.0, "\\u{:04x}", u32::from(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::{Value, json};
    use tracing::subscriber::with_default;
    use tracing_subscriber::{fmt::layer, layer::SubscriberExt as _, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of what `log` logs: in this format, and in that of `tracing-subscriber`.
    fn both_formats(log: impl Fn()) -> [Vec<Value>; 2] {
        let (own, usual) = (Output::default(), Output::default());
        let (first, second) = (own.clone(), usual.clone());
        let subscriber = registry()
            .with(layer().with_writer(move || first.clone()).event_format(JsonLines))
            .with(layer().with_writer(move || second.clone()).json().flatten_event(true));
        with_default(subscriber, log);
        [own, usual].map(|output| {
            let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
            assert!(text.ends_with('\n'), "{text}");
            let parse =
                |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            text.lines().map(parse).collect()
        })
    }

    #[test]
    fn lines_are_those_of_the_usual_format() {
        let error = io::Error::other("no \"luck\"");
        let [mut own, mut usual] = both_formats(|| {
            let (status, none) = (200_u16, None::<&str>);
            tracing::info!(target: "a\\b", status, taken = 1.5, none, "hi");
            tracing::warn!(%error, debug = ?["ä", "\u{1}"], yes = true, minus = -3, whole = 2.0);
            let text = "quote \" back \\ lines \r\n\t\u{0}\u{1f}\u{7f} and 茶";
            tracing::error!(text, shown = %text, nan = f64::NAN, "{text}");
            tracing::debug!(biggest = u64::MAX, least = i64::MIN, tiny = 1e-9, big = 1e300);
        });
        assert_eq!(own.len(), 4);
        for line in own.iter_mut().chain(&mut usual) {
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            let time = time.as_str().unwrap();
            assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        }
        assert_eq!(own, usual);
        assert_eq!(own[0]["message"], json!("hi"));
        assert_eq!(own[0]["status"], json!(200));
    }
}
