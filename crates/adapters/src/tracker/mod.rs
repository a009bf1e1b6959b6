//! Issue trackers.
