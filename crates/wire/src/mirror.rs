//! One macro: a public enum that mirrors an enum of the model, value by value, with both conversions.

macro_rules! mirror_enum {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $variant_doc:literal])+ $variant:ident,)+ }) => {
        $(#[doc = $doc])+
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[doc = $variant_doc])+ $variant,)+
        }

        impl From<alula_model::$name> for $name {
            fn from(value: alula_model::$name) -> Self {
                match value { $(alula_model::$name::$variant => Self::$variant,)+ }
            }
        }

        impl From<$name> for alula_model::$name {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant,)+ }
            }
        }
    };
}

pub(crate) use mirror_enum;
