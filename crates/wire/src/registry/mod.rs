//! The numbers of the IANA registry "Internet Key Exchange Version 2 (IKEv2) Parameters".
//!
//! Each registry is a newtype over the integer on the wire, with a constant for every assigned value. Values without
//! a name are kept as they are: a peer may know more than we do. `Debug` and `Display` give the
//! registry's name, or the type and the number.

mod attributes;
mod header;
mod identity;
mod notify;
mod transforms;

pub use attributes::{CfgAttributeType, CfgType, EapCode, EapType, TsType};
pub use header::{ExchangeType, PayloadType, ProtocolId};
pub use identity::{
    AuthMethodId, CertEncoding, GatewayIdType, HashAlgorithm, IdType, PpkIdType,
    SecurePasswordMethod,
};
pub use notify::{IpcompTransform, NotifyType, RohcAttributeType};
pub use transforms::{
    AttributeType, EncrId, EsnId, GroupControllerAuthId, IntegId, KeId, KeyWrapId, PrfId,
    TransformType,
};

/// Defines an open newtype: `/// doc` `pub struct Name(u8) { NUMBER IDENT ["registry name"] "source", … }`.
macro_rules! registry {
    (@name $ident:ident) => { stringify!($ident) };
    (@name $ident:ident $name:literal) => { $name };
    (
        $(#[$meta:meta])*
        pub struct $type:ident($int:ty) {
            $( $value:literal $ident:ident $(= $name:literal)? ($source:literal), )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(pub $int);

        impl $type {
            $(
                #[doc = concat!("`", $crate::registry::registry!(@name $ident $($name)?), "` = ", $value, " (", $source, ").")]
                pub const $ident: Self = Self($value);
            )*

            /// Every value that has a name, in ascending order.
            pub const NAMED: &'static [Self] = &[$( Self::$ident, )*];

            /// The registry's name for this value, if it has one here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $value => Some($crate::registry::registry!(@name $ident $($name)?)), )*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $type {
            /// The registry's name, or the type and the number in brackets.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => write!(f, concat!(stringify!($type), "({})"), self.0),
                }
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl From<$int> for $type {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }

        impl From<$type> for $int {
            fn from(value: $type) -> Self {
                value.0
            }
        }
    };
}
pub(crate) use registry;
