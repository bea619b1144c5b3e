//! What a call touches: its arguments, resolved to the projects, objects and profiles that a decision is about.
