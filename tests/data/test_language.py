"""A sentence or two tell a language; a word, a number or code tell none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.data.language import UNKNOWN, guess

SAID = {
    "en": "How do I renew a book? Open the page and press the button.",
    "de": "Wie kann ich ein Buch verlängern? Das geht nicht mit der Karte.",
    "fr": "Comment puis-je renouveler un livre ? Il est dans la liste.",
    "es": "¿Cómo puedo renovar un libro? Está en la lista de los préstamos.",
    "it": "Come posso rinnovare il libro? È nella lista che si apre.",
    "pt": "Como posso renovar um livro? Não está na lista do leitor.",
    "nl": "Hoe kan ik een boek verlengen? Dat is niet op de site.",
    "sv": "Hur kan jag förnya boken? Det är inte för mig.",
    "pl": "Jak mogę przedłużyć książkę? Nie jest to w tym miejscu.",
    "cs": "Jak mohu prodloužit knihu? Není to na stránce, ale je tam.",
    "tr": "Bu kitap için ne kadar zaman var? Bir daha nasıl alabilirim?",
    "fi": "Miten voin uusia kirjan? Se ei ole tämä, mutta se on hyvä.",
    "ru": "Как продлить книгу? Это не сложно, вы можете.",
    "uk": "Як продовжити книгу? Її можна взяти ще раз.",
    "bg": "Как да удължа срока? Това е във файла, който получих с ъгъл.",
    "el": "Πώς μπορώ να ανανεώσω ένα βιβλίο;",
    "he": "איך אפשר לחדש ספר?",
    "ar": "كيف يمكنني تجديد كتاب؟",
    "fa": "چگونه می‌توانم کتاب را تمدید کنم؟",
    "hi": "मैं किताब का नवीनीकरण कैसे करूँ?",
    "th": "ฉันจะต่ออายุหนังสือได้อย่างไร",
    "ko": "책을 어떻게 연장하나요?",
    "ja": "本を更新するにはどうすればいいですか。",
    "zh": "如何续借图书？",
}


@pytest.mark.parametrize("code", SAID)
def test_a_sentence_or_two(code: str) -> None:
    assert guess(SAID[code]) == code


@pytest.mark.parametrize("text", ["", "12345", "Rinnovo", "def f(x): return x + 1", "…!?", "Zażółć gęślą"])
def test_what_tells_nothing(text: str) -> None:
    assert guess(text) == UNKNOWN


@given(st.text(max_size=200))
def test_any_text_has_a_guess(text: str) -> None:
    assert guess(text).islower()
    assert guess(text) == guess(text * 1)
