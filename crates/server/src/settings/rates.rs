//! `[rates]`: how often something may be asked for.

super::table::section! {
    /// How often something may be asked for, each time within a minute: as much may come at once,
    /// and then as fast as it is used up. What comes too fast is refused with the time to wait.
    /// 0 means no limit. An address of IPv6 counts with its whole network of 64 bits. Programs on
    /// the server's own machine that reach it directly are not limited by their address, and not
    /// in their use of the API.
    Rates = "rates" {
        /// Attempts to sign in, sign up or set a password, from one address.
        sign_in: u32 = 30;
        /// Attempts to sign in to one account that fail, from one address; three times as many
        /// from all addresses together where its person was never signed in.
        sign_in_account: u32 = 10;
        /// Codes that are tried or asked for, of programs, invitations and shares: from one
        /// address, and by one account.
        codes: u32 = 30;
        /// Questions for a token, and requests with a key that does not exist, from one address.
        tokens: u32 = 120;
        /// Requests of the API by one account.
        api: u32 = 6000;
        /// Requests of every kind from one address.
        address: u32 = 12_000;
        /// Requests of one member's workspaces to the gateways for models and for git. What comes
        /// too fast waits.
        gateway: u32 = 1200;
        /// Mails that one account has the server send.
        mail: u32 = 20;
    }
}
