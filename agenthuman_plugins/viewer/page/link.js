// The page of a link: starts its session, then goes on to the page that shows it.

const refusal = await start();
const status = document.getElementById("status");
status.dataset.state = "ended";
status.textContent = "Not started";
document.getElementById("veil").className = "resting";
document.getElementById("veil-text").textContent = refusal;

// Leaves the page, or returns the sentence that says why it cannot.
async function start() {
  const link_id = location.pathname.split("/").at(-1);
  let answer;
  try {
    const response = await fetch("/v1/links/start-session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ link_id }),
    });
    answer = await response.json();
  } catch {
    return "The server does not answer.";
  }
  if (!answer.success) return `${answer.error.message ?? answer.error}.`;
  // Not kept in the history: coming back would start another session.
  location.replace(`/watch/${answer.session_id}`);
  return new Promise(() => {});
}
