import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { signUp, startAt, ways } from "../api/account";
import { Doorstep, Or } from "../components/Doorstep";
import { AccountFields, incomplete, NOBODY } from "../forms/AccountFields";
import { sorted } from "../forms/problems";
import { Button, ButtonLink, Card, Failure, Note } from "../ui/controls";
import { paths } from "../util/paths";

/** An account of one's own, where the server lets people make one. */
export function SignUp() {
  const asked = useQuery(ways);
  if (asked.isPending) return null;
  if (asked.isError) {
    return (
      <Doorstep title="Make an account">
        <Failure cause={asked.error} />
      </Doorstep>
    );
  }
  const { sign_up, state, providers, password } = asked.data;
  const closed = sign_up === "closed" || state !== "people";
  return (
    <Doorstep title="Make an account">
      {closed ? (
        <Note tone="warn">
          Nobody can make an account here by themselves. Ask somebody who has one for an invitation.
        </Note>
      ) : (
        <Card className="grid gap-4 p-5">
          {providers.map(({ name, label }) => (
            <ButtonLink key={name} href={startAt(name, {})}>
              Continue with {label}
            </ButtonLink>
          ))}
          {providers.length > 0 && password && <Or>or</Or>}
          {password && <NewAccount />}
          {sign_up === "domains" && (
            <p className="text-xs text-faint">
              Addresses of certain domains only; the server's operators chose which.
            </p>
          )}
        </Card>
      )}
      <p className="text-sm text-soft">
        Have one?{" "}
        <Link to={paths.tasks()} className="text-accent underline">
          Sign in
        </Link>
      </p>
    </Doorstep>
  );
}

/** The form, for somebody invited or not. */
export function NewAccount({ invitation, email }: { invitation?: string; email?: string | null }) {
  const navigate = useNavigate();
  const [account, setAccount] = useState({ ...NOBODY, email: email ?? "" });
  const make = useMutation({
    mutationFn: () =>
      signUp({
        name: account.name.trim(),
        email: account.email.trim(),
        password: account.password,
        invitation: invitation ?? null,
      }),
    onSuccess: () => navigate({ to: paths.tasks(), replace: true }),
  });
  const { at, rest } = sorted(make.error, ["name", "email", "password"]);
  return (
    <form
      className="grid gap-4"
      onSubmit={(event) => {
        event.preventDefault();
        if (!incomplete(account)) make.mutate();
      }}
    >
      <AccountFields account={account} change={setAccount} problem={at} lockedEmail={!!email} />
      {!!rest && <Failure cause={rest} />}
      <Button type="submit" look="main" disabled={make.isPending || incomplete(account)}>
        {make.isPending ? "Making the account…" : invitation ? "Join" : "Make the account"}
      </Button>
    </form>
  );
}
