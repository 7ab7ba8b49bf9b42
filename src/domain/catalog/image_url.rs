//! Addresses of product images.

use url::Url;

use crate::domain::validation::ValidationErrors;

/// An image's address ends up in HTML attributes and style sheets of shops that may not escape it.
pub(super) fn validate_image_url(text: &str) -> Result<(), ValidationErrors> {
    // `Url::parse` tolerates what browsers do, such as backslashes and line breaks.
    let unsafe_character = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '\\')
    };
    let http = text.starts_with("https://") || text.starts_with("http://");
    if !http || text.len() > 2048 || Url::parse(text).is_err() {
        return Err(ValidationErrors::single(
            "image_url",
            "invalid_url",
            "image_url must be an http or https address of at most 2048 bytes",
        ));
    }
    if text.contains(unsafe_character) {
        return Err(ValidationErrors::single(
            "image_url",
            "invalid_url",
            "image_url must not contain quotes, angle brackets, backslashes, spaces or control \
             characters; percent-encode them",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_url_is_an_http_address_that_is_safe_in_html() {
        let is_valid = |url: &str| validate_image_url(url).is_ok();
        for url in [
            "https://example.com/tea.jpg?size=2&v=(1)#a",
            "http://[::1]:8080/%22tea%22.jpg",
            "https://例え.jp/お茶.jpg",
        ] {
            assert!(is_valid(url), "{url}");
        }
        for url in [
            "javascript:alert(1)",
            "data:image/png;base64,aaaa",
            "//example.com/tea.jpg",
            "/tea.jpg",
            "http:example.com",
            "https://",
            "https://a b/",
            "https://example.com:99999/",
            "https://example.com/\"onerror=\"x",
            "https://example.com/'x",
            "https://example.com/`x",
            "https://example.com/<x>",
            "https://example.com\\x",
            "https://example.com/a b",
            "https://example.com/a\u{a0}b",
            "https://example.com/a\nb",
            "https://example.com/a\u{0}b",
            &format!("https://example.com/{}", "x".repeat(2048)),
        ] {
            assert!(!is_valid(url), "{url}");
        }
    }
}
