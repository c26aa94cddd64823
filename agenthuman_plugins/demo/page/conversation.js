// What was said, as it is said: the avatar's words arrive one by one when they are spoken.

export class Conversation {
  #list;
  #reply = null; // the bubble of the reply that is being spoken

  constructor(list) {
    this.#list = list;
  }

  get speaking() {
    return this.#reply !== null;
  }

  addUser(text) {
    this.#add("user", text);
  }

  addNote(text) {
    this.#add("note", text);
  }

  addWords(text) {
    this.#reply ??= this.#add("bot speaking", "");
    this.#reply.textContent += (this.#reply.textContent ? " " : "") + text.trim();
    this.#follow();
  }

  endReply({ interrupted }) {
    this.#reply?.classList.remove("speaking");
    this.#reply?.classList.toggle("cut", interrupted);
    this.#reply = null;
  }

  #add(kind, text) {
    const item = document.createElement("li");
    item.className = kind;
    item.textContent = text;
    this.#list.append(item);
    this.#follow();
    return item;
  }

  #follow() {
    this.#list.scrollTop = this.#list.scrollHeight;
  }
}
