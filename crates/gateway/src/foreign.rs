//! Every parser of this crate that meets bytes of others, behind one door: for whoever feeds them nonsense (`cargo xtask fuzz`).
//! What they make of it is thrown away; that they end, and do not panic, is what is looked at.

use crate::guard::foreign as head;
use crate::pages::foreign_fields;
use crate::params::pairs_of;
use crate::routes::foreign_action;

/// A parser and its name.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them; each has a corpus of its name in `fuzz/corpus`.
pub const READERS: &[Reader] = &[("action", foreign_action), ("form", form), ("head", head)];

/// Has the parser of that name read these bytes; there may be none of that name.
pub fn read(name: &str, bytes: &[u8]) {
    READERS.iter().filter(|(known, _)| *known == name).for_each(|(_, reader)| reader(bytes));
}

/// The body of a form, as what it asks for.
fn form(bytes: &[u8]) {
    if let Ok(fields) = pairs_of(bytes) {
        foreign_fields(&fields);
    }
}
