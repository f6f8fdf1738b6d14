//! System interfaces: the only place that talks to the kernel.
