//! The header of a CSV product file, and its rows.

use std::{collections::BTreeMap, str::FromStr};

use serde_json::value::RawValue;

use super::{
    csv_splitter::CsvFields,
    json::{self, parse_amount_text},
    product_patch::PatchProductRequest,
};
use crate::{
    domain::{
        catalog::product::{AttributeValue, ProductPatch},
        excerpt::excerpt,
        money::{Currency, Money, MoneyError},
        validation::ValidationErrors,
    },
    error::{Error, ErrorCode},
    messages::catalog::ImportRow,
};

/// The most bytes of column names that an error lists.
const MAX_LISTED_BYTES: usize = 250;

/// A column that an import reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
enum Field {
    Name,
    Description,
    Price,
    Stock,
    Sku,
    Category,
    Tags,
    ImageUrl,
    Attributes,
    PurchaseLimit,
    WeightGrams,
    TaxClass,
}

/// A column of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Known(Field),
    /// Ignored, as the caller asked.
    Ignored,
    /// Ignored as long as it is empty: spreadsheet programs write such columns.
    Unnamed,
}

/// The columns of a file, in its order.
#[derive(Debug)]
pub(super) struct CsvHeader {
    columns: Vec<Column>,
    /// The names in lower case.
    names: Vec<String>,
}

impl CsvHeader {
    /// Parses the header record. Names may have outer spaces and upper case letters.
    pub(super) fn parse(fields: &CsvFields, ignore_unknown: bool) -> Result<Self, Error> {
        let names: Vec<String> = fields.iter().map(str::to_lowercase).collect();
        let columns: Vec<Column> = names
            .iter()
            .map(|name| match Field::from_str(name) {
                Ok(field) => Column::Known(field),
                Err(_) if name.is_empty() => Column::Unnamed,
                Err(_) => Column::Ignored,
            })
            .collect();
        let unknown = || columns.iter().zip(fields.iter()).filter(|(c, _)| **c == Column::Ignored);
        if !ignore_unknown && unknown().next().is_some() {
            return Err(unknown_columns_error(unknown().map(|(_, name)| name)));
        }
        let known: Vec<Field> = columns.iter().filter_map(|column| column.field()).collect();
        for (index, field) in known.iter().enumerate() {
            if known.iter().take(index).any(|earlier| earlier == field) {
                let message = format!("the column {} occurs twice", field_name(*field));
                return Err(Error::invalid_field("header", "duplicate", message));
            }
        }
        let has = |field: Field| known.contains(&field);
        if !(has(Field::Sku) || has(Field::Name) && has(Field::Price)) {
            let message = "the first line must name the columns: sku, or name and price, are \
                           required";
            return Err(Error::invalid_field("header", "required", message));
        }
        Ok(Self { columns, names })
    }

    /// The names of the columns, in lower case.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

impl Column {
    const fn field(self) -> Option<Field> {
        match self {
            Self::Known(field) => Some(field),
            Self::Ignored | Self::Unnamed => None,
        }
    }
}

fn field_name(field: Field) -> &'static str {
    <Field as strum::VariantNames>::VARIANTS.get(field as usize).copied().unwrap_or_default()
}

fn unknown_columns_error<'a>(names: impl Iterator<Item = &'a str>) -> Error {
    let (mut listed, mut more) = (String::new(), 0);
    for name in names {
        let name = excerpt(name);
        if more > 0 || listed.len() + name.len() > MAX_LISTED_BYTES {
            more += 1;
            continue;
        }
        if !listed.is_empty() {
            listed.push_str(", ");
        }
        listed.push_str(&name);
    }
    if more > 0 {
        listed.push_str(&format!(" and {more} more"));
    }
    let known = <Field as strum::VariantNames>::VARIANTS.join(", ");
    let message = format!(
        "unknown columns: {listed}; known are {known}; ignore_unknown=true (--ignore-unknown) \
         skips the others"
    );
    Error::invalid_field("header", "unknown_column", message)
}

/// Parses a row. An empty cell leaves the product's value as it is.
pub(super) fn parse_csv_row(
    header: &CsvHeader,
    fields: &CsvFields,
    currency: Currency,
) -> Result<ImportRow, Error> {
    let columns = header.columns.len();
    let has_more = fields.iter().skip(columns).any(|cell| !cell.is_empty());
    if fields.len() < columns || has_more {
        let message = format!(
            "the line has fewer or more fields than the header: {} instead of {columns}",
            fields.len()
        );
        return Err(Error::invalid_field("line", "invalid", message));
    }
    let mut row = RowParser { currency, errors: ValidationErrors::new(), attributes: None };
    let (mut patch, mut stock) = (ProductPatch::default(), None);
    let cells = header.columns.iter().zip(fields.iter()).enumerate();
    for (index, (column, cell)) in cells.filter(|(_, (_, cell))| !cell.is_empty()) {
        match column {
            Column::Known(Field::Stock) => stock = row.parse_integer("stock", cell),
            Column::Known(field) => row.parse_cell(&mut patch, *field, cell)?,
            Column::Ignored => {}
            Column::Unnamed => {
                let message =
                    format!("column {} has no name, but the value {}", index + 1, excerpt(cell));
                row.errors.add("line", "invalid", message);
            }
        }
    }
    patch.attributes = row.attributes.map(Some);
    Ok(row.errors.into_result(ImportRow { patch: patch.trimmed(), stock })?)
}

struct RowParser {
    currency: Currency,
    errors: ValidationErrors,
    attributes: Option<BTreeMap<String, Option<AttributeValue>>>,
}

impl RowParser {
    fn parse_cell(
        &mut self,
        patch: &mut ProductPatch,
        field: Field,
        cell: &str,
    ) -> Result<(), Error> {
        let text = || Some(Some(cell.to_owned()));
        match field {
            Field::Name => patch.name = text(),
            Field::Description => patch.description = text(),
            Field::Sku => patch.sku = text(),
            Field::Category => patch.category = text(),
            Field::ImageUrl => patch.image_url = text(),
            Field::Price => patch.price = Some(Some(self.parse_price(cell))),
            Field::PurchaseLimit => {
                patch.purchase_limit = Some(self.parse_integer("purchase_limit", cell));
            }
            Field::WeightGrams => {
                patch.weight_grams = Some(self.parse_integer("weight_grams", cell));
            }
            Field::TaxClass => patch.tax_class = text(),
            Field::Tags => {
                let tags = cell.split('|').map(str::trim).filter(|tag| !tag.is_empty());
                let tags: Vec<String> = tags.map(str::to_owned).collect();
                patch.tags = (!tags.is_empty()).then_some(Some(tags));
            }
            Field::Attributes => self.attributes = Some(parse_attributes(cell, self.currency)?),
            Field::Stock => {}
        }
        Ok(())
    }

    fn parse_price(&mut self, cell: &str) -> Money {
        let with_point = with_decimal_point(cell);
        let text = with_point.as_deref().unwrap_or(cell);
        if Money::parse(text, self.currency) == Err(MoneyError::NotANumber) {
            let message = format!("price must be a number, not {}", excerpt(cell));
            self.errors.add("price", "invalid_amount", message);
            return Money::zero(self.currency);
        }
        parse_amount_text("price", text, self.currency, &mut self.errors)
    }

    fn parse_integer<T: FromStr>(&mut self, name: &'static str, cell: &str) -> Option<T> {
        let parsed = cell.parse().ok();
        if parsed.is_none() {
            let message = format!("{name} must be a whole number, not {}", excerpt(cell));
            self.errors.add(name, "invalid", message);
        }
        parsed
    }
}

/// `4,50` as `4.50`. Not `1,250`, in which the comma may separate thousands.
fn with_decimal_point(cell: &str) -> Option<String> {
    let (units, decimals) = cell.split_once(',')?;
    let is_decimal = matches!(decimals.len(), 1 | 2)
        && units.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| format!("{units}.{decimals}"))
}

/// Parses a JSON object as a merge patch of the product's attributes.
fn parse_attributes(
    cell: &str,
    currency: Currency,
) -> Result<BTreeMap<String, Option<AttributeValue>>, Error> {
    let invalid = || {
        let message = format!("attributes must be a JSON object, not {}", excerpt(cell));
        Error::invalid_field("attributes", "invalid", message)
    };
    // One JSON value, so that the cell cannot end the object and begin another member.
    let value: &RawValue = serde_json::from_str(cell).map_err(|_| invalid())?;
    if !value.get().starts_with('{') {
        return Err(invalid());
    }
    let member = format!("{{\"attributes\":{}}}", value.get());
    let patch = json::parse::<PatchProductRequest>(member.as_bytes(), &[]);
    // The error of malformed JSON names a body.
    let in_cell = |error: Error| match error.code {
        ErrorCode::MalformedJson => {
            let message = format!("attributes have a value that is not valid: {}", excerpt(cell));
            Error::invalid_field("attributes", "invalid", message)
        }
        _ => error,
    };
    let patch = patch.map_err(in_cell)?.parse(currency)?;
    Ok(patch.attributes.flatten().unwrap_or_default())
}
