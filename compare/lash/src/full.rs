//! SQLite's default is `synchronous=FULL`; lash-sqlite-store sets NORMAL on each connection, and has no option to leave it.
//! To measure both, SQLite is asked to pass over that one pragma: by an authorizer, which every connection of this process
//! gets from an automatic extension. Nothing of lash is changed.

use std::ffi::{CStr, c_char, c_int, c_void};

use rusqlite::auto_extension::register_auto_extension;
use rusqlite::ffi;

/// To be called before a connection is opened.
pub fn keep_synchronous_full() -> rusqlite::Result<()> {
    // SAFETY: the extension opens, closes and registers nothing; it only sets an authorizer that lives as long as the process.
    unsafe { register_auto_extension(authorize_connection) }
}

unsafe extern "C" fn authorize_connection(
    connection: *mut ffi::sqlite3,
    _: *mut *mut c_char,
    _: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: SQLite hands over the connection that it is opening.
    unsafe { ffi::sqlite3_set_authorizer(connection, Some(pass_over), std::ptr::null_mut()) }
}

unsafe extern "C" fn pass_over(
    _: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _: *const c_char,
    _: *const c_char,
) -> c_int {
    // SAFETY: for a pragma SQLite gives its name, and its argument or null.
    let is_synchronous = action == ffi::SQLITE_PRAGMA
        && !second.is_null()
        && unsafe { CStr::from_ptr(first) }.to_bytes().eq_ignore_ascii_case(b"synchronous");
    if is_synchronous { ffi::SQLITE_IGNORE } else { ffi::SQLITE_OK }
}
