"""Reads pages as a browser does, as far as tests need it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """``tags``: (name, attributes) of every element, in order; ``text``: outside of scripts and styles, in one line;
    ``rows``: texts of the cells of each table row, by the id of the row."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.rows, self._open, self._words = [], {}, [], []
        self.source = source
        self.feed(source)
        self.close()
        assert not self._open, f"not closed: {self._open}"
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, attributes.get("id")))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        opened = self._open.pop()
        assert opened[0] == tag, f"</{tag}> closes <{opened[0]}>"

    def handle_data(self, data):
        if any(tag in ("script", "style") for tag, _ in self._open):
            return
        self._words.append(data)
        for tag, name in self._open:
            if tag == "tr" and name:
                self.rows.setdefault(name, []).append(data.strip())

    def all(self, tag):
        """Attributes of every element of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def loads_nothing(self):
        """Fail if an element could load something, or a script other than the page's own could run."""
        assert all(set(a) == set() for a in self.all("script"))
        assert len(self.all("script")) == 1 and not self.all("iframe") and not self.all("object")
        for tag, attributes in self.tags:
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            for name in ("src", "href", "xlink:href", "srcset", "action"):
                if name in attributes:
                    assert attributes[name].startswith(("#", "data:")), (tag, attributes)
        assert "@import" not in self.source and "url(" not in self.source
