/** Passkeys, as the browser keeps them. */

/** Why this browser can't use passkeys here; nothing if it can. */
export function passkeysMissing(): string | undefined {
  if (!window.isSecureContext) return "Passkeys need https.";
  const known = globalThis.PublicKeyCredential as typeof PublicKeyCredential | undefined;
  if (!known?.parseRequestOptionsFromJSON || !known.parseCreationOptionsFromJSON) {
    return "This browser is too old for passkeys.";
  }
  return undefined;
}

/** Proves who one is by a passkey. */
export async function provePasskey(options: unknown): Promise<unknown> {
  const json = options as PublicKeyCredentialRequestOptionsJSON;
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(json);
  return told(navigator.credentials.get({ publicKey }));
}

/** Makes a passkey. */
export async function createPasskey(options: unknown): Promise<unknown> {
  const json = options as PublicKeyCredentialCreationOptionsJSON;
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(json);
  return told(navigator.credentials.create({ publicKey }));
}

async function told(asked: Promise<Credential | null>): Promise<unknown> {
  const credential = await asked.catch((cause: unknown) => {
    throw new Error(reason(cause));
  });
  if (!(credential instanceof PublicKeyCredential)) throw new Error("The browser gave no passkey.");
  return credential.toJSON();
}

/** What a browser says is for those who write pages. */
function reason(cause: unknown): string {
  switch (cause instanceof DOMException ? cause.name : "") {
    case "NotAllowedError":
      return "No passkey was used: it was cancelled, or took too long.";
    case "InvalidStateError":
      return "This device has a passkey for you already.";
    case "SecurityError":
      return "The browser does not use passkeys at this address.";
    default:
      return "The browser could not use a passkey.";
  }
}
