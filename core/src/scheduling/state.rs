//! What a policy works out once and keeps for a cycle, or for as long as pods of the same shape come.

use std::any::Any;
use std::fmt;

/// One policy's own room: it holds one value of a type that the policy chooses, and no other policy sees it.
///
/// ```
/// use longshore_core::scheduling::State;
///
/// struct Wanted { cores: u32 }
/// let mut state = State::default();
/// state.set(Wanted { cores: 4 });
/// assert_eq!(state.get::<Wanted>().map(|wanted| wanted.cores), Some(4));
/// ```
#[derive(Default)]
pub struct State(Option<Box<dyn Any + Send + Sync>>);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "State(…)" } else { "State(empty)" })
    }
}

impl State {
    /// Keeps a value, instead of the one before.
    pub fn set<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0 = Some(Box::new(value));
    }

    /// The value kept, if there is one of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.as_deref()?.downcast_ref()
    }

    /// The value kept, if there is one of this type, to change.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()?.downcast_mut()
    }

    /// Lets go of the value.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}
