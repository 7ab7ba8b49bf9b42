//! Removes the spaces that people and spreadsheets leave around texts, so that `Coffee` and
//! `Coffee ` are one category.

use std::{collections::BTreeMap, mem};

use super::product::{AttributeValue, ProductDetails, ProductPatch};

impl ProductDetails {
    /// These details without outer spaces in the sku, the name, the category, the tags, the image's
    /// address, the tax class and the attributes. Name, category and tags are one line each: a line
    /// break or tab within them becomes a space. Of equal tags, the first one stays.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        self.name = to_single_line(self.name);
        trim_optional(&mut self.sku);
        trim_optional(&mut self.image_url);
        trim_optional(&mut self.tax_class);
        self.category = self.category.map(to_single_line);
        self.tags = trim_tags(self.tags);
        for value in self.attributes.values_mut() {
            trim_attribute(value);
        }
        if has_untrimmed_name(&self.attributes) {
            self.attributes = trim_names(self.attributes);
        }
        self
    }
}

impl ProductPatch {
    /// This patch, trimmed as [`ProductDetails::trimmed`] does.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        let single_line = |text: Option<Option<String>>| text.map(|text| text.map(to_single_line));
        self.name = single_line(self.name);
        self.category = single_line(self.category);
        self.sku.iter_mut().for_each(trim_optional);
        self.image_url.iter_mut().for_each(trim_optional);
        self.tax_class.iter_mut().for_each(trim_optional);
        self.tags = self.tags.map(|tags| tags.map(trim_tags));
        if let Some(Some(attributes)) = &mut self.attributes {
            attributes.values_mut().flatten().for_each(trim_attribute);
            if has_untrimmed_name(attributes) {
                *attributes = trim_names(mem::take(attributes));
            }
        }
        self
    }
}

/// `text` without outer spaces.
#[must_use]
pub fn trim(text: String) -> String {
    let trimmed = text.trim();
    if trimmed.len() == text.len() { text } else { trimmed.to_owned() }
}

fn trim_optional(text: &mut Option<String>) {
    *text = text.take().map(trim);
}

fn to_single_line(text: String) -> String {
    const BREAKS: [char; 3] = ['\n', '\r', '\t'];
    let trimmed = text.trim();
    if trimmed.contains(BREAKS) {
        let parts = trimmed.split(BREAKS).map(str::trim).filter(|part| !part.is_empty());
        return parts.collect::<Vec<_>>().join(" ");
    }
    trim(text)
}

fn trim_tags(tags: Vec<String>) -> Vec<String> {
    let mut trimmed: Vec<String> = Vec::with_capacity(tags.len());
    for tag in tags.into_iter().map(to_single_line) {
        // An empty tag stays, and is refused like any other that is invalid.
        if tag.is_empty() || !trimmed.contains(&tag) {
            trimmed.push(tag);
        }
    }
    trimmed
}

fn trim_attribute(value: &mut AttributeValue) {
    if let AttributeValue::Text(text) = value {
        *text = trim(mem::take(text));
    }
}

fn has_untrimmed_name<V>(attributes: &BTreeMap<String, V>) -> bool {
    attributes.keys().any(|name| name.trim().len() != name.len())
}

/// Of two names that differ only in outer spaces, the trimmed one counts.
fn trim_names<V>(attributes: BTreeMap<String, V>) -> BTreeMap<String, V> {
    let (untrimmed, mut trimmed): (BTreeMap<_, _>, BTreeMap<_, _>) =
        attributes.into_iter().partition(|(name, _)| name.trim().len() != name.len());
    for (name, value) in untrimmed {
        trimmed.entry(trim(name)).or_insert(value);
    }
    trimmed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> AttributeValue {
        AttributeValue::Text(text.into())
    }

    fn untrimmed_attributes() -> BTreeMap<String, AttributeValue> {
        [(" color", text("green")), ("color", text(" red ")), (" size ", text("XL"))]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    fn trimmed_attributes() -> BTreeMap<String, AttributeValue> {
        [("color", text("red")), ("size", text("XL"))]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    #[test]
    fn details_lose_outer_spaces_and_line_breaks_in_names() {
        let details = ProductDetails {
            sku: Some(" 12 Oaktree\t".into()),
            description: " two\nlines ".into(),
            category: Some("Coffee ".into()),
            tags: vec!["green ".into(), " green".into(), "a\tb".into()],
            image_url: Some(" https://souk.example/a.png ".into()),
            attributes: untrimmed_attributes(),
            ..ProductDetails::sample("\u{a0}Mint \r\n  tea\n")
        }
        .trimmed();
        assert_eq!(details.sku.as_deref(), Some("12 Oaktree"));
        assert_eq!(
            (details.name.as_str(), details.description.as_str()),
            ("Mint tea", " two\nlines ")
        );
        assert_eq!(details.category.as_deref(), Some("Coffee"));
        assert_eq!(details.tags, ["green", "a b"]);
        assert_eq!(details.image_url.as_deref(), Some("https://souk.example/a.png"));
        assert_eq!(details.attributes, trimmed_attributes());
    }

    #[test]
    fn patch_is_trimmed_alike_and_keeps_what_it_clears() {
        let patch = ProductPatch {
            sku: Some(Some(" Ä-12 ".into())),
            name: Some(Some(" Tea\nMint ".into())),
            category: Some(None),
            tags: Some(Some(vec![" a ".into(), String::new(), " ".into()])),
            attributes: Some(Some(
                untrimmed_attributes()
                    .into_iter()
                    .map(|(name, value)| (name, Some(value)))
                    .collect(),
            )),
            ..ProductPatch::default()
        }
        .trimmed();
        assert_eq!(patch.sku, Some(Some("Ä-12".into())));
        assert_eq!(patch.name, Some(Some("Tea Mint".into())));
        assert_eq!((patch.category, patch.image_url), (Some(None), None));
        assert_eq!(patch.tags, Some(Some(vec!["a".into(), String::new(), String::new()])));
        let attributes = patch.attributes.flatten().unwrap();
        let attributes: BTreeMap<_, _> =
            attributes.into_iter().map(|(name, value)| (name, value.unwrap())).collect();
        assert_eq!(attributes, trimmed_attributes());
    }
}
