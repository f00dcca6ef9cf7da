import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { setUp, ways } from "../api/account";
import { Doorstep } from "../components/Doorstep";
import { AccountFields, incomplete, NOBODY } from "../forms/AccountFields";
import { sorted } from "../forms/problems";
import { Button, Card, Failure, Note } from "../ui/controls";
import { paths } from "../util/paths";
import { SignIn } from "./SignIn";

/** The first visit to a server: whoever has the printed link becomes its owner. */
export function Setup() {
  const code = new URLSearchParams(location.search).get("code") ?? "";
  const asked = useQuery(ways);
  const navigate = useNavigate();
  const [account, setAccount] = useState(NOBODY);
  const begin = useMutation({
    mutationFn: () =>
      setUp({
        code,
        name: account.name.trim(),
        email: account.email.trim(),
        password: account.password,
      }),
    onSuccess: () => navigate({ to: paths.tasks(), replace: true }),
  });
  const { at, rest } = sorted(begin.error, ["name", "email", "password"]);
  if (asked.isPending) return null;
  if (asked.isError) {
    return (
      <Doorstep title="Set up Boatyard">
        <Failure cause={asked.error} />
      </Doorstep>
    );
  }
  if (asked.data.state !== "setup") {
    return (
      <Doorstep title="Set up Boatyard">
        <Note tone="warn">
          This server has been set up already, by whoever opened its link first.
        </Note>
        <Link to={paths.tasks()} className="text-sm text-accent underline">
          Sign in
        </Link>
      </Doorstep>
    );
  }
  // Without a code there is nothing to fill in: the page that asks for the link says where it is.
  if (!code) return <SignIn />;
  return (
    <Doorstep title="Set up Boatyard" about="You become the owner of this server">
      <Card className="p-5">
        <form
          className="grid gap-4"
          onSubmit={(event) => {
            event.preventDefault();
            if (!incomplete(account)) begin.mutate();
          }}
        >
          <AccountFields account={account} change={setAccount} problem={at} />
          {!!rest && <Failure cause={rest} />}
          <Button type="submit" look="main" disabled={begin.isPending || incomplete(account)}>
            {begin.isPending ? "Setting up…" : "Set up"}
          </Button>
        </form>
      </Card>
      <p className="text-sm text-soft">
        The link works once. Others come by invitation, until you choose otherwise.
      </p>
    </Doorstep>
  );
}
