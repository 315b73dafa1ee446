//! What a long analysis tells its caller, and what it asks.

/// A way to follow an analysis and to stop it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    progress: &'a (dyn Fn(f64) + Sync),
    cancelled: &'a (dyn Fn() -> bool + Sync),
    /// The part of the whole, from and to, that this watch reports.
    range: (f64, f64),
}

impl<'a> Watch<'a> {
    /// Binds a callback for the fraction done, in [0, 1], and a question whether to stop.
    ///
    /// Both may be called from several threads at once; fractions reported by different threads may arrive out of
    /// order.
    pub fn new(
        progress: &'a (dyn Fn(f64) + Sync),
        cancelled: &'a (dyn Fn() -> bool + Sync),
    ) -> Self {
        Self { progress, cancelled, range: (0.0, 1.0) }
    }

    /// Watches nothing and never stops.
    pub fn none() -> Watch<'static> {
        Watch::new(&|_| {}, &|| false)
    }

    /// Restricts to one part of the whole.
    #[must_use]
    pub fn part(self, from: f64, to: f64) -> Self {
        Self { range: (self.scaled(from), self.scaled(to)), ..self }
    }

    /// Reports the fraction done of this part.
    pub fn report(&self, fraction: f64) {
        (self.progress)(self.scaled(fraction));
    }

    /// Tells whether the caller wants the analysis to stop.
    pub fn is_cancelled(&self) -> bool {
        (self.cancelled)()
    }

    fn scaled(&self, fraction: f64) -> f64 {
        self.range.0 + fraction * (self.range.1 - self.range.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_part_reports_within_its_range() {
        let seen = Mutex::new(Vec::new());
        let note = |fraction| seen.lock().unwrap().push(fraction);
        let watch = Watch::new(&note, &|| true).part(0.5, 1.0).part(0.0, 0.5);
        watch.report(0.0);
        watch.report(1.0);
        assert_eq!(*seen.lock().unwrap(), [0.5, 0.75]);
        assert!(watch.is_cancelled());
        assert!(!Watch::none().is_cancelled());
    }
}
