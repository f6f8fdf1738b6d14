//! Pauses between tries for something that is missing.

use std::time::Duration;

/// Pauses that double from a shortest to a longest one.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `min`, ends at `max`.
    pub fn new(min: Duration, max: Duration) -> Backoff {
        let next = min;
        Backoff { min, max, next }
    }

    /// Start from the shortest pause again.
    pub fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next pause. `scatter`, from 0 to 1, shortens it by up to a quarter, so that the
    /// nodes of a cluster do not all come back at once.
    pub fn pause(&mut self, scatter: f64) -> Duration {
        let pause = self.next.mul_f64(1.0 - scatter.clamp(0.0, 1.0) / 4.0);
        self.next = (self.next * 2).min(self.max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(5000));
        for pause in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            assert_eq!(backoff.pause(0.0), ms(pause));
        }
        assert_eq!(backoff.pause(1.0), ms(3750));
        backoff.reset();
        assert_eq!(backoff.pause(0.5), Duration::from_micros(87_500));
    }
}
