//! Median and range of repeated measurements.

/// Median and range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle value; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of these values; `None` if there are none. Values that are not numbers do not count.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| !v.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Summary { median, min, max })
    }
}

impl std::fmt::Display for Summary {
    /// `12.64 [12.20-13.21]`, with fewer digits the larger the values, none for
    /// counts, and no range where there is none.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = [self.median, self.min, self.max]
            .iter()
            .all(|v| v.fract() == 0.0);
        let digits = match self.median {
            _ if whole => 0,
            m if m < 1.0 => 3,
            m if m < 20.0 => 2,
            m if m < 100.0 => 1,
            _ => 0,
        };
        let Summary { median, min, max } = self;
        if min == max {
            return write!(f, "{median:.digits$}");
        }
        write!(f, "{median:.digits$} [{min:.digits$}-{max:.digits$}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let of = |values: &[f64]| Summary::of(values.iter().copied()).map(|s| s.median);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some(3.0));
        assert_eq!(of(&[9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(of(&[4.0, 1.0, 9.0, 2.0]), Some(3.0));
        assert_eq!(of(&[f64::NAN, 5.0]), Some(5.0));
    }

    #[test]
    fn display_has_sensible_digits() {
        let show = |values: [f64; 3]| Summary::of(values).unwrap().to_string();
        assert_eq!(show([12.643, 12.2, 13.21]), "12.64 [12.20-13.21]");
        assert_eq!(show([30.61, 30.2, 31.3]), "30.6 [30.2-31.3]");
        assert_eq!(show([228.4, 214.0, 245.2]), "228 [214-245]");
        assert_eq!(show([0.1124, 0.1, 0.12]), "0.112 [0.100-0.120]");
        assert_eq!(show([0.0, 0.0, 7.0]), "0 [0-7]");
        assert_eq!(show([8.0, 8.0, 8.0]), "8");
    }
}
