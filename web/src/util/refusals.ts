/** What a provider's sign-in came to, by the code in the page's address. */
const SENTENCES: Record<string, string> = {
  not_begun: "This sign-in was not begun in this browser, or too long ago. Begin again.",
  denied: "The provider did not let you in. Try again, or choose another way.",
  unreachable:
    "The provider can't be reached at the moment. Try again later, or choose another way.",
  nonsense: "The provider's answer can't be used. The server's log says what is wrong with it.",
  code: "The provider does not know this sign-in any more. Begin again.",
  closed: "There is no account for you on this server. Ask for an invitation.",
  address_taken:
    "There is an account with your address already. Sign in to it as before, then link this provider to it.",
  no_address: "The provider tells no address of yours that it has verified.",
  account_taken: "That account at the provider belongs to somebody else here.",
  disabled: "Your account on this server was switched off. Ask one of its operators.",
  invitation: "The invitation is not valid: it was used, is over, or is for another address.",
  no_organization: "You are in no organization of this server any more. Ask for an invitation.",
  no_provider: "This way of signing in is switched off.",
};

export function refusal(code: string): string {
  return SENTENCES[code] ?? "Signing in did not work. Try again, or choose another way.";
}
