//! A catalog of real texts: the names and descriptions of the distribution's packages, each in
//! several variants.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::json;

/// A product before it is multiplied.
pub struct Item {
    name: String,
    pub title: String,
    section: String,
    tags: Vec<String>,
}

const VARIANTS: [&str; 8] =
    ["", "blue", "large", "compact", "classic", "deluxe", "travel", "refurbished"];

/// Reads the packages that `apt-cache` knows.
pub fn read_items() -> anyhow::Result<Vec<Item>> {
    let output = Command::new("apt-cache").arg("dumpavail").output();
    let output = output.context("the catalog is made of the packages that apt-cache lists")?;
    let text = String::from_utf8_lossy(&output.stdout).replace("\n ", " ");
    let items: Vec<Item> = text.split("\n\n").filter_map(parse_item).collect();
    ensure!(items.len() > 1000, "apt-cache lists no packages; run apt-get update");
    Ok(items)
}

fn parse_item(paragraph: &str) -> Option<Item> {
    let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
    let title: String = field("Description: ")?.chars().take(150).collect();
    let tags = field("Tag: ").unwrap_or_default().split(',').map(|tag| tag.trim().to_owned());
    Some(Item {
        name: field("Package: ")?.to_owned(),
        title,
        section: field("Section: ")?.to_owned(),
        tags: tags.filter(|tag| !tag.is_empty()).take(5).collect(),
    })
}

/// The texts of product `number`: name, description and labels.
pub fn texts(items: &[Item], number: usize) -> Option<(String, String, String)> {
    let item = items.get(number % items.len())?;
    let variant = VARIANTS.get(number / items.len() % VARIANTS.len())?;
    let name = format!("{} {variant}", item.title).trim().to_owned();
    let description = format!(
        "{}: {}. Sold in the section {}, as {number}.",
        item.name, item.title, item.section
    );
    Some((name, description, format!("{} {}", item.section, item.tags.join(" "))))
}

/// Writes `count` products as NDJSON.
pub fn write_products(items: &[Item], count: usize, path: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for number in 0..count {
        let item = items.get(number % items.len()).context("no packages")?;
        let (name, description, _) = texts(items, number).context("no packages")?;
        let color = VARIANTS.get(number % VARIANTS.len());
        let product = json!({
            "sku": format!("{}-{number}", item.name.chars().take(50).collect::<String>()),
            "name": name,
            "description": description,
            "price": number * 7919 % 200_000 / 100,
            "stock": number % 5,
            "category": item.section,
            "tags": item.tags,
            "attributes":
                {"size": number * 7 % 40, "color": color, "new": number.is_multiple_of(3)},
        });
        writeln!(file, "{product}")?;
    }
    Ok(file.flush()?)
}

/// Deterministic numbers, so that every run asks the same.
pub struct Numbers(u64);

impl Numbers {
    pub const fn new() -> Self {
        Self(12_345)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end.max(1)
    }
}

/// What shoppers type: one to three words of a title, of which some are incomplete and some have a
/// typo.
pub fn queries(items: &[Item], count: usize) -> Vec<String> {
    let mut numbers = Numbers::new();
    let query = |_| {
        let title = items.get(numbers.below(items.len())).map_or("", |item| &item.title);
        let words: Vec<&str> = title.split_whitespace().collect();
        let (first, len) = (numbers.below(words.len()), 1 + numbers.below(3));
        let mut text: Vec<char> = words
            .iter()
            .skip(first)
            .take(len)
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .collect();
        match numbers.below(10) {
            0 if text.len() > 6 => {
                let at = 1 + numbers.below(text.len() - 2);
                text.swap(at, at + 1);
            }
            1..=3 => text.truncate(text.len() - text.len() / 3),
            _ => {}
        }
        text.into_iter().take(100).collect()
    };
    (0..count).map(query).collect()
}
