//! Parsing of single values. Every value is read as text first, so that files and environment
//! variables accept the same values, and no number is rounded or cast.
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use jiff::SignedDuration;
use secrecy::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::ip_network::parse_network;
use crate::domain::{catalog::search::CatalogLanguage, money::Currency};

const SOCKET_ADDR: &str = "an IP address and port, such as 127.0.0.1:8080";

/// A setting with a closed set of values.
pub(super) trait EnumSetting: Copy + PartialEq + 'static {
    /// Every value with its name.
    const ALL: &'static [(&'static str, Self)];

    /// The value with this name.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The name of this value.
    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// The permitted values, for error messages.
    fn expected_values() -> String {
        let names: Vec<String> = Self::ALL.iter().map(|(name, _)| format!("{name:?}")).collect();
        format!("a known value; use {}", names.join(" or "))
    }
}

fn parse_value<T, E: serde::de::Error>(
    text: &str,
    parse: impl FnOnce(&str) -> Option<T>,
    expected: impl Display,
) -> Result<T, E> {
    parse(text).ok_or_else(|| E::custom(format_args!("{text:?} is not {expected}")))
}

fn read_value<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Option<T>,
    expected: impl Display,
) -> Result<T, D::Error> {
    parse_value(&String::deserialize(deserializer)?, parse, expected)
}

/// An empty string leaves an optional setting unset.
pub(super) fn optional_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(deserializer)?).filter(|text| !text.is_empty()))
}

pub(super) fn optional_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    Ok(optional_text(deserializer)?.map(SecretString::from))
}

pub(super) fn optional_path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    Ok(optional_text(deserializer)?.map(PathBuf::from))
}

pub(super) fn enum_value<'de, D: Deserializer<'de>, T: EnumSetting>(
    deserializer: D,
) -> Result<T, D::Error> {
    read_value(deserializer, T::from_name, T::expected_values())
}

pub(super) fn optional_enum_value<'de, D: Deserializer<'de>, T: EnumSetting>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    match optional_text(deserializer)? {
        Some(text) => parse_value(&text, T::from_name, T::expected_values()).map(Some),
        None => Ok(None),
    }
}

pub(super) fn socket_addr<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SocketAddr, D::Error> {
    read_value(deserializer, |text| text.parse().ok(), SOCKET_ADDR)
}

pub(super) fn optional_socket_addr<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    match optional_text(deserializer)? {
        Some(text) => parse_value(&text, |text| text.parse().ok(), SOCKET_ADDR).map(Some),
        None => Ok(None),
    }
}

pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    read_value(deserializer, |text| text.parse().ok(), "true or false")
}

pub(super) fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let expected = format!("a whole number from 0 to {}", u32::MAX);
    read_value(deserializer, |text| text.parse().ok(), expected)
}

pub(super) fn fraction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let parse = |text: &str| text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    read_value(deserializer, parse, "a part; use a number from 0 to 1, such as 0.05")
}

/// Far above any useful number, and far below what would exhaust the machine.
pub(super) const MAX_WORKERS: usize = 1024;

/// 0 means the number of cores.
pub(super) fn worker_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match whole_number(deserializer)? {
        0 => {
            Ok(std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS)))
        }
        workers => usize::try_from(workers).map_err(D::Error::custom),
    }
}

/// Negative durations are rejected, since the result cannot hold them.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    read_value(deserializer, parse_duration, EXPECTED_DURATION)
}

const EXPECTED_DURATION: &str = "a duration; use one such as 500ms, 5s, 15m or 24h";

/// A duration in units up to hours, or in whole days of 24 hours.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Some(Duration::from_secs(u64::from(days) * 24 * 60 * 60));
    }
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}

pub(super) fn durations<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Duration>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_value(text, parse_duration, EXPECTED_DURATION)).collect()
}

pub(super) fn byte_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let parse = |text: &str| usize::try_from(text.parse::<ByteSize>().ok()?.as_u64()).ok();
    read_value(deserializer, parse, "a size; use one such as 64KiB or 1MiB")
}

pub(super) fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Currency, D::Error> {
    let expected = "a supported currency; use an ISO 4217 code such as USD";
    read_value(deserializer, |code| code.parse().ok(), expected)
}

pub(super) fn language<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<CatalogLanguage, D::Error> {
    let expected = "a known language; use a tag such as en, de or pt-BR";
    read_value(deserializer, |tag| tag.parse().ok(), expected)
}

pub(super) fn ip_networks<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpNet>, D::Error> {
    let expected = "an IP address or network; use one such as 10.0.0.7 or 10.0.0.0/8";
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| parse_value(text, parse_network, expected))
        .collect()
}
