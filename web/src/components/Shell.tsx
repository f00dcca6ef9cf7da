import { Link, Outlet } from "@tanstack/react-router";
import { useFeed } from "../hooks/useFeed";
import { files, paths } from "../util/paths";
import { AccountMenu } from "./AccountMenu";

/** The frame around every page of somebody who is signed in. */
export function Shell() {
  const connection = useFeed();
  return (
    <div className="flex min-h-dvh flex-col">
      <a
        href="#main"
        className="absolute left-2 top-2 z-20 -translate-y-20 rounded-lg bg-accent px-3 py-2 text-accent-ink focus:translate-y-0"
      >
        Skip to the content
      </a>
      <header className="sticky top-0 z-10 border-b border-line bg-page/90 backdrop-blur">
        <div className="mx-auto flex h-14 max-w-5xl items-center gap-4 px-4">
          <Link to={paths.tasks()} className="flex items-center gap-2.5 rounded font-semibold">
            <img src="/favicon.svg" alt="" width={26} height={26} />
            Boatyard
          </Link>
          <nav
            aria-label="Elsewhere"
            className="ml-auto flex items-center text-sm whitespace-nowrap sm:gap-1"
          >
            <Link
              to={paths.agents()}
              className="rounded-lg px-3 py-2 text-soft hover:bg-sunken hover:text-ink"
            >
              Agents
            </Link>
            <a
              href={files.docs()}
              className="rounded-lg px-3 py-2 text-soft hover:bg-sunken hover:text-ink"
            >
              API
            </a>
            <AccountMenu />
          </nav>
        </div>
        {connection === "lost" && (
          <p role="status" className="bg-warn-wash px-4 py-1 text-center text-xs text-warn">
            Connecting again…
          </p>
        )}
      </header>
      <main id="main" className="mx-auto w-full max-w-5xl flex-1 px-4 py-6">
        <Outlet />
      </main>
    </div>
  );
}
