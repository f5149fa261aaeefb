//! Lanes: what of the queue waits for itself only.
//!
//! A lane is one kind of work of one function, `NAMESPACE/FUNCTION/CLASS` in the queue, so that everything of a function,
//! and of a namespace, stands together.

use std::fmt;

use alula_model::Name;

/// Kinds of work that do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LaneClass {
    /// All work of a function that has places of its own.
    Dedicated,
    /// Slots of schedules.
    Scheduled,
    /// Calls and events.
    General,
    /// What failed and is tried again.
    Retry,
    /// What is sent out: results, notices.
    Delivery,
}

impl LaneClass {
    /// Every class, in the order of their urgency.
    pub const ALL: [Self; 5] = [Self::Dedicated, Self::Scheduled, Self::General, Self::Retry, Self::Delivery];

    /// The class as it stands in lanes and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dedicated => "dedicated",
            Self::Scheduled => "scheduled",
            Self::General => "general",
            Self::Retry => "retry",
            Self::Delivery => "delivery",
        }
    }

    /// Its part of the work where all have some: what is late at once goes before what is late already.
    pub(crate) const fn weight(self) -> u64 {
        match self {
            Self::Dedicated | Self::Scheduled => 8,
            Self::General => 4,
            Self::Retry => 1,
            Self::Delivery => 2,
        }
    }
}

/// One kind of work of one function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The tenant.
    pub namespace: Name,
    /// The function.
    pub function: Name,
    /// The kind of work.
    pub class: LaneClass,
}

impl Lane {
    /// What all lanes of a function, or of a namespace, begin with; of everything, with neither.
    #[must_use]
    pub fn prefix(namespace: Option<&Name>, function: Option<&Name>) -> String {
        match (namespace, function) {
            (Some(namespace), Some(function)) => format!("{namespace}/{function}/"),
            (Some(namespace), None) => format!("{namespace}/"),
            (None, _) => String::new(),
        }
    }

    /// Reads a lane's text; `None` where it is not one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (namespace, function, class) = (parts.next()?, parts.next()?, parts.next()?);
        let class = LaneClass::ALL.into_iter().find(|known| known.as_str() == class)?;
        let lane = Self { namespace: Name::new(namespace).ok()?, function: Name::new(function).ok()?, class };
        parts.next().is_none().then_some(lane)
    }

    /// The lane in which what failed in this one is tried again.
    #[must_use]
    pub fn of_retries(&self) -> Self {
        let class = match self.class {
            LaneClass::Scheduled | LaneClass::General | LaneClass::Retry => LaneClass::Retry,
            LaneClass::Dedicated | LaneClass::Delivery => self.class,
        };
        Self { class, ..self.clone() }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.function, self.class.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_survives_its_text_form() {
        for text in ["shop/pay/general", "a/b/scheduled", "a/b/retry", "a/b/delivery"] {
            assert_eq!(Lane::parse(text).map(|lane| lane.to_string()).as_deref(), Some(text));
        }
        for text in ["", "a", "a/b", "a/b/c", "a/b/general/", "a//general", "A/b/general"] {
            assert_eq!(Lane::parse(text), None, "{text}");
        }
    }
}
