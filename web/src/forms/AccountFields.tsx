import { PasswordField, TextField } from "../ui/controls";

/** The shortest password that the server takes, in characters. */
export const PASSWORD_MIN = 10;

export interface Account {
  name: string;
  email: string;
  password: string;
}

export const NOBODY: Account = { name: "", email: "", password: "" };

/** What keeps an account from being sent. */
export function incomplete({ name, email, password }: Account): boolean {
  return !name.trim() || !email.includes("@") || password.length < PASSWORD_MIN;
}

/** Name, address and password of a new account. */
export function AccountFields({
  account,
  change,
  problem,
  lockedEmail = false,
}: {
  account: Account;
  change: (account: Account) => void;
  problem: (field: string) => string | undefined;
  /** The address is given: an invitation is for it. */
  lockedEmail?: boolean;
}) {
  const set = (part: Partial<Account>) => change({ ...account, ...part });
  const short = account.password.length > 0 && account.password.length < PASSWORD_MIN;
  return (
    <>
      <TextField
        label="Name"
        autoComplete="name"
        required
        maxLength={100}
        value={account.name}
        problem={problem("name")}
        hint="As others see it."
        onChange={(event) => set({ name: event.target.value })}
      />
      <TextField
        label="Email"
        type="email"
        autoComplete="username"
        required
        readOnly={lockedEmail}
        value={account.email}
        problem={problem("email")}
        hint={lockedEmail ? "The invitation is for this address." : undefined}
        onChange={(event) => set({ email: event.target.value })}
      />
      <PasswordField
        label="Password"
        autoComplete="new-password"
        required
        minLength={PASSWORD_MIN}
        value={account.password}
        problem={problem("password")}
        hint={
          short
            ? `${PASSWORD_MIN - account.password.length} more needed.`
            : `At least ${PASSWORD_MIN} characters; a sentence is easy to remember.`
        }
        onChange={(event) => set({ password: event.target.value })}
      />
    </>
  );
}
