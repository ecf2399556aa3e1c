//! Numbers as people write them: counts (`100`), sizes (`16K`) and durations (`10s`).
//!
//! Pure functions: text in, value or error out. The error completes a sentence that the caller begins with the flag's
//! name. `config` decides which values a flag accepts.

use crate::http::number;
use std::time::Duration;

/// The longest duration that is accepted: a year. `Instant + Duration` panics on overflow, so there must be a limit.
const LONGEST: Duration = Duration::from_secs(8760 * 60 * 60);

/// Parses a whole number, digits only.
///
/// `str::parse` alone would also accept `+5`.
pub fn number(text: &str) -> Result<u64, String> {
    if !number::is_digits(text.as_bytes()) {
        return Err("not a whole number; write digits only, such as 100".into());
    }
    text.parse().map_err(|_| format!("too large; the largest number is {}", u64::MAX))
}

/// Parses a size in bytes: a whole number, and optionally K, M, G or T in either case, with or without `B` or `iB`.
///
/// Every unit is a power of 1024, `KB` included: these are sizes of buffers, not of disks.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        fraction if fraction.starts_with('.') => {
            return Err("whole numbers only; write 1536K for 1.5M".into());
        }
        _ => return Err(NOT_A_SIZE.into()),
    };
    if digits.is_empty() {
        return Err(NOT_A_SIZE.into());
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(1 << shift))
        .ok_or_else(|| format!("too large; the largest size is {} bytes", u64::MAX))
}

/// Parses a duration: a whole number and ms, s, m or h. A number without a unit is in seconds. At most a year.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split(text);
    let milliseconds: u64 = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        fraction if fraction.starts_with('.') => {
            return Err("whole numbers only; write 1500ms for 1.5s".into());
        }
        _ => return Err(NOT_A_DURATION.into()),
    };
    if digits.is_empty() {
        return Err(NOT_A_DURATION.into());
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "too long; the longest duration is a year, 8760h".into())
}

const NOT_A_SIZE: &str = "not a size; write a whole number of bytes, optionally with K, M, G or T: 512, 16K, 50M, 1G";
const NOT_A_DURATION: &str = "not a duration; write a whole number with ms, s, m or h: 500ms, 10s, 2m, 1h";

/// Splits the leading digits from the unit.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, value) in [("0", 0), ("007", 7), ("100", 100), ("18446744073709551615", u64::MAX)] {
            assert_eq!(number(text), Ok(value), "{text:?}");
        }
        for text in ["", " ", "+5", "-5", "5 ", "5k", "1e3", "1_000", "٣", "18446744073709551616"] {
            assert!(number(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, value) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("16K", 16 << 10),
            ("16k", 16 << 10),
            ("16KB", 16 << 10),
            ("16KiB", 16 << 10),
            ("50M", 50 << 20),
            ("1G", 1 << 30),
            ("2TiB", 2 << 40),
            ("16777215T", 16_777_215 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(value), "{text:?}");
        }
        for text in [
            "",
            "K",
            "iB",
            "16iB",
            "16 K",
            " 16K",
            "16K ",
            "+16K",
            "-1",
            "1.5M",
            ".5M",
            "1,5M",
            "16KK",
            "16P",
            "0x10",
            "16K1",
            "٣K",
            "16\u{212a}", // the Kelvin sign, which Unicode (not ASCII) lower-cases to k
            "16777216T",
            "18446744073709551616",
            "99999999999999999999999999",
        ] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0ms", 0),
            ("500ms", 500),
            ("10", 10_000),
            ("10s", 10_000),
            ("10S", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("8760h", LONGEST.as_millis() as u64),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text:?}");
        }
        for text in [
            "",
            "s",
            "ms",
            "10 s",
            " 10s",
            "+10s",
            "-1s",
            "1.5s",
            "1m30s",
            "10sec",
            "1d",
            "10µs",
            "8761h",
            "18446744073709551615",
            "18446744073709551616s",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reasons_tell_what_to_do() {
        assert!(size("1.5M").unwrap_err().contains("1536K"));
        assert!(duration("1.5s").unwrap_err().contains("1500ms"));
        assert!(size("abc").unwrap_err().contains("16K"));
        assert!(duration("soon").unwrap_err().contains("10s"));
    }
}
