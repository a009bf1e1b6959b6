//! What proves Dalsegno, and what proves an adapter or a host of somebody else's.
//!
//! | module | what is there |
//! |---|---|
//! | [`conformance`] | what every tracker, forge, agent, durable host and saga host must do, case by case |
//! | [`doubles`] | the engine's ports in memory and by script, with a record of all calls |
//! | [`durable`] | stores of durable effects that record and that fail |
//! | [`crash`] | killing the real binary at named points |
//! | [`traced`] | killing a child before each system call that changes a file |
//! | [`sim`] | the machine in a simulated world: faults, crashes and people from a seed, judged after each step |
//! | [`saga`] | the same walk for the machine of sagas |
//! | [`model`] | a scripted language model behind a real HTTP port, for real agents |
//! | [`forge`] | a forge (GitHub's API, in part) behind a real HTTP port, which can be told to lie |
//! | [`parts`] | the real programs that tests need, and a loud line where one is missing |

pub mod conformance;
pub mod crash;
pub mod doubles;
pub mod durable;
pub mod forge;
pub mod model;
pub mod parts;
pub mod saga;
pub mod sim;
pub mod traced;
