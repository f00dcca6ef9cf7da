/** The page's addresses and what they show. */
import { useQuery } from "@tanstack/react-query";
import { createRootRoute, createRoute, createRouter, Link, Outlet } from "@tanstack/react-router";
import { identity } from "./api/queries";
import { Shell } from "./components/Shell";
import { Account } from "./pages/Account";
import { Agents } from "./pages/Agents";
import { Device } from "./pages/Device";
import { Invite } from "./pages/Invite";
import { Session } from "./pages/Session";
import { Setup } from "./pages/Setup";
import { Share } from "./pages/Share";
import { SignIn } from "./pages/SignIn";
import { SignUp } from "./pages/SignUp";
import { Task } from "./pages/Task";
import { Tasks } from "./pages/Tasks";
import { Failure } from "./ui/controls";
import { paths } from "./util/paths";

const root = createRootRoute({ component: Outlet, notFoundComponent: Missing });

/** Everything that needs somebody who is signed in. */
const app = createRoute({ getParentRoute: () => root, id: "app", component: Gate });

const tasks = createRoute({ getParentRoute: () => app, path: "/", component: Tasks });
const agents = createRoute({ getParentRoute: () => app, path: "/agents", component: Agents });
const task = createRoute({ getParentRoute: () => app, path: "/tasks/$id", component: Task });
const session = createRoute({
  getParentRoute: () => app,
  path: "/sessions/$id",
  component: Session,
});

const account = createRoute({ getParentRoute: () => app, path: "/account", component: Account });
const device = createRoute({ getParentRoute: () => app, path: "/device", component: Device });

const setup = createRoute({ getParentRoute: () => root, path: "/setup", component: Setup });
const invite = createRoute({ getParentRoute: () => root, path: "/invite", component: Invite });
const share = createRoute({ getParentRoute: () => root, path: "/share", component: Share });
const signUp = createRoute({ getParentRoute: () => root, path: "/sign-up", component: SignUp });

export const router = createRouter({
  routeTree: root.addChildren([
    app.addChildren([tasks, task, session, agents, account, device]),
    setup,
    invite,
    share,
    signUp,
  ]),
  defaultPreload: "intent",
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

function Gate() {
  const asked = useQuery(identity);
  if (asked.isPending) return null;
  if (asked.isError) {
    return (
      <main className="mx-auto max-w-md px-4 py-16">
        <Failure cause={asked.error} />
      </main>
    );
  }
  // For another person, or in another organization, all of it begins anew.
  const { data } = asked;
  return data ? <Shell key={`${data.organization} ${data.person}`} /> : <SignIn />;
}

function Missing() {
  return (
    <main className="mx-auto grid max-w-md gap-3 px-4 py-16">
      <h1 className="text-xl font-semibold">There is no such page</h1>
      <Link to={paths.tasks()} className="text-accent underline">
        To the tasks
      </Link>
    </main>
  );
}
