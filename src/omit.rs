//! Which parameters are left out of what is written, so that one that came later leaves older results as they are.

/// Tells whether a value is its type's default.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Tells whether a count is 1.
pub fn is_one(value: &usize) -> bool {
    *value == 1
}
