//! The IPsec databases: selectors, policies, security associations, and the kernel's lookup rules.
