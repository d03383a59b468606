//! Lists the SAs and policies of this network namespace as `ip xfrm` does; keys are not shown.
//!
//! ```text
//! cargo run -p cygnet-xfrm --example xfrm-list
//! ```

use cygnet_xfrm::{Client, Text};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::open()?;
    let text = Text::default();
    for (info, attributes) in client.dump_sas()? {
        print!("{}", text.sa(&info, &attributes));
    }
    for (info, attributes) in client.dump_policies()? {
        print!("{}", text.policy(&info, &attributes));
    }
    Ok(())
}
