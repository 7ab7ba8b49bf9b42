//! Reading decimal numbers exactly.

use super::MoneyError;

/// Reads a JSON number that is 0 or more and has at most `decimals` decimals, as an integer of
/// units of ten to the power of `-decimals`.
///
/// # Errors
/// Not a number, negative, more decimals, or too large for the result.
pub(in crate::domain) fn parse_scaled(text: &str, decimals: u8) -> Result<i64, MoneyError> {
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || mantissa.ends_with('.') || !digits().all(|b| b.is_ascii_digit()) {
        return Err(MoneyError::NotANumber);
    }
    if digits().all(|b| b == b'0') {
        return Ok(0);
    }
    if negative {
        return Err(MoneyError::Negative);
    }
    let fraction_len = i64::try_from(fraction.len()).map_err(|_| MoneyError::TooPrecise)?;
    // The number is `digits` times ten to this power, in the units of the result.
    let power = exponent.saturating_sub(fraction_len).saturating_add(i64::from(decimals));
    scale_digits(digits().skip_while(|b| *b == b'0').collect(), power)
}

fn parse_exponent(text: &str) -> Result<i64, MoneyError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(MoneyError::NotANumber);
    }
    // An exponent outside of i64 saturates, which keeps its sign.
    Ok(text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX }))
}

/// `digits` times ten to the `power`, as an integer.
fn scale_digits(mut digits: Vec<u8>, mut power: i64) -> Result<i64, MoneyError> {
    while power < 0 && digits.last() == Some(&b'0') {
        digits.pop();
        power += 1;
    }
    if power < 0 {
        return Err(MoneyError::TooPrecise);
    }
    let power = u32::try_from(power).map_err(|_| MoneyError::TooLarge)?;
    let number = digits
        .iter()
        .try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
        .ok_or(MoneyError::TooLarge)?;
    let scale = 10_i64.checked_pow(power).ok_or(MoneyError::TooLarge)?;
    number.checked_mul(scale).ok_or(MoneyError::TooLarge)
}
