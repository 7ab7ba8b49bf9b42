//! The text format of Prometheus, for readers that do not ask for OpenMetrics.

/// The media type of the classic text format.
pub(crate) const CLASSIC_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The media type of OpenMetrics.
pub(crate) const OPENMETRICS_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Turns OpenMetrics text into the classic format, in which a counter's description bears the name
/// of its samples, ending in `_total`, and there is no end mark.
pub(super) fn to_classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + 1024);
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        // The description is HELP, then TYPE: whether it is a counter stands in the second line.
        let counter = match line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            Some((name, help)) => {
                let kind = lines.peek().and_then(|next| next.strip_prefix("# TYPE "));
                let is_counter = kind.is_some_and(|kind| kind == format!("{name} counter"));
                is_counter.then(|| format!("# HELP {name}_total {help}"))
            }
            None => {
                let counter =
                    line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter"));
                counter.map(|name| format!("# TYPE {name}_total counter"))
            }
        };
        text.push_str(counter.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_bear_the_name_of_their_samples() {
        let openmetrics = "# HELP a Things.\n# TYPE a counter\na_total{x=\"counter\"} 1\n\
            # HELP b Size.\n# TYPE b gauge\n# UNIT b bytes\nb 2\n# EOF\n";
        let classic = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"counter\"} 1\n\
            # HELP b Size.\n# TYPE b gauge\nb 2\n";
        assert_eq!(to_classic(openmetrics), classic);
    }
}
