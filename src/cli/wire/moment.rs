//! Times in output: a moment in UTC, by `strftime`'s letters.
//!
//! Owns the calendar. Never reads a clock, knows no time zone.

use std::fmt::Write as _;

use leveret_core::time::Time;

/// A moment, cut into what calendars and clocks show.
pub(in crate::cli) struct Moment {
    epoch_ms: u64,
    year: i64,
    /// 1 to 12.
    month: u64,
    /// 1 to 31.
    day: u64,
    /// 0 is Sunday.
    weekday: u64,
    /// 1 to 366.
    year_day: u64,
}

impl Moment {
    pub(in crate::cli) fn at(time: Time) -> Self {
        let days = time.0 / DAY_MS;
        let (year, month, day) = civil(days);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let passed: u64 = MONTH_DAYS.iter().take(month as usize - 1).sum();
        Self {
            epoch_ms: time.0,
            year,
            month,
            day,
            weekday: (days + 4) % 7,
            year_day: passed + day + u64::from(leap && month > 2),
        }
    }

    fn hour(&self) -> u64 {
        self.epoch_ms / 3_600_000 % 24
    }

    fn minute(&self) -> u64 {
        self.epoch_ms / 60_000 % 60
    }

    fn second(&self) -> u64 {
        self.epoch_ms / 1_000 % 60
    }

    fn milliseconds(&self) -> u64 {
        self.epoch_ms % 1_000
    }

    /// `2020-05-06T22:12:00.000000Z+0000`, which is what mosquitto's JSON has in UTC.
    pub(super) fn json(&self) -> String {
        format!("{}.{:03}000Z+0000", self.text("FT"), self.milliseconds())
    }

    /// `09:47:38.123`.
    pub(in crate::cli) fn clock(&self) -> String {
        format!(
            "{:02}:{:02}:{:02}.{:03}",
            self.hour(),
            self.minute(),
            self.second(),
            self.milliseconds()
        )
    }

    /// `2016-08-10T09:47:38+0100`.
    pub(super) fn iso(&self) -> String {
        self.text("FTz")
    }

    /// `1470818943.786368637`.
    pub(super) fn unix(&self) -> String {
        format!("{}.{:03}000000", self.epoch_ms / 1_000, self.milliseconds())
    }

    fn text(&self, letters: &str) -> String {
        let mut out = String::new();
        for letter in letters.chars() {
            if letter == 'T' && !out.is_empty() {
                out.push('T');
            }
            // Both letters are known.
            let _ = self.put(letter, &mut out);
        }
        out
    }

    /// Appends what `strftime` makes of a letter, in the C locale; `N` is mosquitto's nanoseconds.
    /// `None` for a letter that is not known.
    pub(super) fn put(&self, letter: char, out: &mut String) -> Option<()> {
        let twelve = (self.hour() + 11) % 12 + 1;
        let weekday = WEEKDAYS[self.weekday as usize];
        let month = MONTHS[self.month as usize - 1];
        let written = match letter {
            'Y' => write!(out, "{}", self.year),
            'C' => write!(out, "{:02}", self.year / 100),
            'y' => write!(out, "{:02}", self.year % 100),
            'm' => write!(out, "{:02}", self.month),
            'd' => write!(out, "{:02}", self.day),
            'e' => write!(out, "{:2}", self.day),
            'j' => write!(out, "{:03}", self.year_day),
            'H' => write!(out, "{:02}", self.hour()),
            'I' => write!(out, "{twelve:02}"),
            'M' => write!(out, "{:02}", self.minute()),
            'S' => write!(out, "{:02}", self.second()),
            'N' => write!(out, "{:03}000000", self.milliseconds()),
            'p' => write!(out, "{}", if self.hour() < 12 { "AM" } else { "PM" }),
            's' => write!(out, "{}", self.epoch_ms / 1_000),
            'u' => write!(out, "{}", (self.weekday + 6) % 7 + 1),
            'w' => write!(out, "{}", self.weekday),
            'A' => write!(out, "{weekday}"),
            'a' => write!(out, "{}", &weekday[..3]),
            'B' => write!(out, "{month}"),
            'b' | 'h' => write!(out, "{}", &month[..3]),
            'z' => write!(out, "+0000"),
            'Z' => write!(out, "UTC"),
            'n' => writeln!(out),
            't' => write!(out, "\t"),
            '%' => write!(out, "%"),
            _ => return self.put_several(letter, out),
        };
        written.ok()
    }

    /// The letters that stand for several others.
    fn put_several(&self, letter: char, out: &mut String) -> Option<()> {
        let letters = match letter {
            'F' => "Y-m-d",
            'T' | 'X' => "H:M:S",
            'R' => "H:M",
            'D' | 'x' => "m/d/y",
            'r' => "I:M:S p",
            'c' => "a b e H:M:S Y",
            _ => return None,
        };
        for letter in letters.chars() {
            if letter.is_ascii_alphabetic() {
                self.put(letter, out)?;
            } else {
                out.push(letter);
            }
        }
        Some(())
    }
}

/// Year, month and day of a number of days since 1970-01-01, by eras of 400 years that begin in
/// March, so that the leap day is a year's last.
fn civil(days: u64) -> (i64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = (year_of_era + era * 400) as i64 + i64::from(month <= 2);
    (year, month, day)
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;
const MONTH_DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o8_moments() {
        let rows = [
            (0, "1970-01-01 00:00:00 Thu 001"),
            (951_827_696_789, "2000-02-29 12:34:56 Tue 060"),
            (1_795_338_305_409, "2026-11-22 09:05:05 Sun 326"),
            (4_107_542_400_000, "2100-03-01 00:00:00 Mon 060"),
        ];
        for (ms, expected) in rows {
            let moment = Moment::at(Time(ms));
            let mut out = String::new();
            for (place, letter) in ['F', 'T', 'a', 'j'].into_iter().enumerate() {
                if place > 0 {
                    out.push(' ');
                }
                moment.put(letter, &mut out).expect("it is known");
            }
            assert_eq!(out, expected);
        }
        let moment = Moment::at(Time(1_795_338_305_409));
        assert_eq!(moment.json(), "2026-11-22T09:05:05.409000Z+0000");
        assert_eq!(moment.iso(), "2026-11-22T09:05:05+0000");
        assert_eq!(moment.unix(), "1795338305.409000000");
        assert_eq!(moment.put('Q', &mut String::new()), None);
    }
}
