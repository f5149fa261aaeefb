//! Until when a certificate is valid: the one field of X.509 that nothing else here reads.
//!
//! RFC 5280, section 4.1: a certificate is a sequence of the part that is signed and more; that part holds, in this order,
//! an optional version, the serial number, the algorithm, the issuer, and the validity, a sequence of two times.

use alula_model::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::options::TlsOptions;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Elements before the validity: serial number, algorithm, issuer.
const BEFORE_VALIDITY: usize = 3;

/// When the certificate of these options ends; `None` where it cannot be read.
#[must_use]
pub fn ends_at(options: &TlsOptions) -> Option<Timestamp> {
    not_after(&CertificateDer::from_pem_file(&options.certificate).ok()?)
}

/// When a certificate ends.
fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut signed, _) = element(certificate, SEQUENCE)?;
    if signed.first() == Some(&VERSION) {
        signed = element(signed, VERSION)?.1;
    }
    for _ in 0..BEFORE_VALIDITY {
        signed = element(signed, *signed.first()?)?.1;
    }
    let (validity, _) = element(signed, SEQUENCE)?;
    let (_, not_after) = element(validity, *validity.first()?)?;
    let tag = *not_after.first()?;
    let (text, _) = element(not_after, tag)?;
    moment(tag, std::str::from_utf8(text).ok()?)
}

/// The content of the element that `bytes` begin with, which has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ 0..0x80 => (short, rest),
        long => {
            let (length, rest) = rest.split_at_checked(long & 0x7f)?;
            let length =
                length.iter().try_fold(0_usize, |sum, byte| Some(sum.checked_mul(256)? + usize::from(*byte)));
            (length?, rest)
        }
    };
    let (content, after) = rest.split_at_checked(length)?;
    (*found == tag).then_some((content, after))
}

/// `YYMMDDHHMMSSZ`, where years from 50 on are of the last century, or `YYYYMMDDHHMMSSZ` (RFC 5280, section 4.1.2.5).
fn moment(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = digits[..2].parse().ok()?;
            (if year >= 50 { 1_900 + year } else { 2_000 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |place: usize| rest[2 * place..2 * place + 2].parse::<i64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(1)?, part(2)?, part(3)?, part(4)?);
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp(seconds * 1_000))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, which repeats after 400 years. Years are counted from March, so
/// that the day that a leap year has more is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * DAYS_OF_400_YEARS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["alula.test".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        // date -u -d 2027-02-28 +%s and so on.
        for ((year, month, day), seconds) in [
            ((2027, 2, 28), 1_803_772_800),
            ((2028, 2, 29), 1_835_395_200),
            ((2049, 12, 31), 2_524_521_600),
            ((2050, 1, 1), 2_524_608_000),
            ((2100, 3, 1), 4_107_542_400),
        ] {
            assert_eq!(
                not_after(&until(year, month, day)),
                Some(Timestamp(seconds * 1_000)),
                "{year}-{month}-{day}"
            );
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let whole = until(2030, 1, 1);
        for length in 0..whole.len() {
            // Cut anywhere it must not panic.
            let _ = not_after(&whole[..length]);
        }
        for bytes in [&b""[..], b"0", b"\x30\xff", b"\x30\x84\xff\xff\xff\xff", b"hello"] {
            assert_eq!(not_after(bytes), None);
        }
    }
}
